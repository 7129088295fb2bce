"""What there is: the table of variables, and named fields as standardised channels."""
