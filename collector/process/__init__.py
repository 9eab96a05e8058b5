"""Processors: what happens to spans between a receiver and MLflow. Pure.

keep.py    whole-trace sampling: which traces are forwarded, and why
"""
