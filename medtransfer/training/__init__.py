"""Training by mmengine configs: the only room that knows mmengine's Runner."""
