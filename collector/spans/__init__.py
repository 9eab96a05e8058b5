"""The canonical span: conventions, facts, values, prices, the tree of a trace and its totals. Pure."""
