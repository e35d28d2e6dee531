"""Models of random weights for bench/make_model.

    values        random numbers and bytes that depend on a seed and a name
    shape         config.json -> the modules of the model
    tensors       what both kinds of file share: a tensor in pieces
    mlx_folder    the folder that mlx-lm would write
    gguf_file     the file that llama.cpp reads
"""
