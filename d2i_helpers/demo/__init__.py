"""The fictional world: `simulate` makes an SSD and lets days pass, `receiver` plays the DfE's API.

Nothing of the product needs it but the command line and the endpoint of the demo profile.
"""
