"""Mistakes that a type checker finds with the files of `nodegraph stubs`."""

from nodegraph import Workflow

w = Workflow("txt2img")
model = w.add("LoadModel", model="builtin:tiny")
w.add("TextEncode", text_encoder=model.vae, text="x")  # wrong: another port
w.add("TextEncode", text_encoder=model.text_encoders, text="x")  # wrong: no such output
w.add("TextEncode", text_encoder=model, text="x")  # wrong: several outputs
w.add("TextEncode", text_encoder=model.text_encoder)  # wrong: text is missing
w.add("TextEncode", text_encoder=model.text_encoder, text="x", txt="y")  # wrong: no such input
w.add("TextEncod", text="x")  # wrong: no such node type
w.add("EmptyLatent", vae=model.vae, width="wide")  # wrong: not a number
