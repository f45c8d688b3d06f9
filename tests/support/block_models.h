/* Small models for weights in blocks of 64 (compute/q8.h, compute/nf4.h): a Llama with tied tables, GPT-2, whose weights lie the other way
 * round, and a Llama with a linear that is in no whole blocks. */
#ifndef TESTS_SUPPORT_BLOCK_MODELS_H
#define TESTS_SUPPORT_BLOCK_MODELS_H

static const char *const block_configs[] = {
    "{\"model_type\":\"llama\",\"vocab_size\":96,\"hidden_size\":64,\"intermediate_size\":192,"
    "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-5,"
    "\"max_position_embeddings\":64,\"tie_word_embeddings\":true}",
    "{\"model_type\":\"gpt2\",\"vocab_size\":96,\"n_embd\":64,\"n_layer\":2,\"n_head\":4,\"n_positions\":64,"
    "\"layer_norm_epsilon\":1e-5}",
    /* the down projection's 80 inputs are no whole blocks: it stays as it is */
    "{\"model_type\":\"llama\",\"vocab_size\":96,\"hidden_size\":64,\"intermediate_size\":80,"
    "\"num_hidden_layers\":1,\"num_attention_heads\":4,\"num_key_value_heads\":4,\"rms_norm_eps\":1e-5,"
    "\"max_position_embeddings\":64,\"tie_word_embeddings\":false}"};
enum { BLOCK_CONFIGS = sizeof block_configs / sizeof *block_configs };

#endif
