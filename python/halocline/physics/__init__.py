"""What must hold: sea water, balances, diagnostics and the verdict.

Pure functions of float64 tensors. The same ones constrain a sample, judge a generated state and
judge a running model.
"""
