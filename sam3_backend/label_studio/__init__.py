"""Label Studio's words: its labelling configs, tasks, regions, RLE and API. Nothing below this package knows them."""
