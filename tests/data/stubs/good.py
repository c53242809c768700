"""What a type checker accepts with the files of `nodegraph stubs`."""

from pathlib import Path

from PIL import Image

from nodegraph import Engine, Workflow

w = Workflow("txt2img")
model = w.add("LoadModel", model="builtin:tiny")
positive = w.add("TextEncode", text_encoder=model.text_encoder, text="a red house under a night sky")
negative = w.add("TextEncode", text_encoder=model.text_encoder, text=w.params.negative)
latent = w.add("EmptyLatent", vae=model.vae)
noise = w.add("Noise", like=latent, seed=7)
noise2 = w.add("Noise", like=latent, seed="random", name="noise2")
denoiser = w.add("UNetDenoise", unet=model.unet, positive=positive, negative=negative, cfg=3.0)
sampled = w.add("Sampler", denoiser=denoiser, latent=latent, noise=noise, sampler="dpmpp_2m", steps=20)
image = w.add("VAEDecode", vae=model.vae, latent=sampled)
grid = w.add("Grid", images=[image, image.output])
many = w.add("VAEDecode", vae=model.vae, each={"latent": [sampled]})
small = w.add("Resize", image=Image.new("RGB", (8, 8)), width=8)
photo = w.add("LoadImage", path=Path("x.png"))
w.output("picture", image, save="x.png")
w.output("photo", photo.image)
used = w.use("x.yaml", prompt="y")
w.output("other", used.picture)
engine = Engine(cache_dir="cache")
result = engine.run(w, targets=[image, sampled])
print(result[image].pixels.shape, result.ran, result.cached)
