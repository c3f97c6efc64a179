"""Model folders to and from a Hugging Face hub; a network is reached only when it is called."""
