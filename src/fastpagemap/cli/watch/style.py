"""Where things are on the screen of the full-screen views."""

__all__ = ["CSS"]

CSS = """
#small { display: none; width: 100%; height: 100%; content-align: center middle; }
.small #small { display: block; }
.small #all { display: none; }
#all { layout: vertical; }
#what { text-style: bold; }
#title { background: $panel; }
#body { height: 1fr; layout: vertical; }
#picture { height: 1fr; }
#cells { height: 1fr; }
Listing { height: 1fr; background: $background; scrollbar-size: 1 1; overflow-x: hidden; }
.wide #body { layout: horizontal; }
.wide #picture { height: 100%; width: 1fr; margin-right: 1; }
.wide #mappings { height: 100%; width: auto; max-width: 75%; }
"""
