"""Figures, as ratios to a peer or a ceiling measured in the same run. Nothing here passes or fails."""
