"""The fictional world: `simulate` makes an SSD and lets days pass, `receiver` plays the DfE's API.

Of the product, only the command line and the endpoint of the demo profile need it.
"""
