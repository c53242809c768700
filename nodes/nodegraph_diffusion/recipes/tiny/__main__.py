"""Train the embedded model from scratch: `python -m nodegraph_diffusion.recipes.tiny --work FOLDER`."""

from nodegraph_diffusion.recipes.tiny.train import main

if __name__ == "__main__":
    main()
