"""A real reader of documents: the simulated services answer with what the document says.

It knows PDF (with positions), plain text and the text chunks of PNG; it recognises nothing in pixels.
"""
