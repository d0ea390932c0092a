"""Drawings that can be touched. Each explorer holds a state; its trace and drawing follow."""
