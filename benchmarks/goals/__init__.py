"""The goals of speed, a module for each kind of question; bench_goals.py runs them all."""
