"""The lab: weight decay under the reader's hand, from recorded runs, in the page, or in the kernel."""
