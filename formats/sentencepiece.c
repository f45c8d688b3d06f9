#include "formats/sentencepiece.h"

#include "base/file.h"

#include <limits.h>
#include <math.h>
#include <string.h>

enum { MAX_FILE = 64 << 20, MAX_PIECES = 1 << 22 }; /* the largest known have 5 MB and 260 thousand pieces */

/* ---- the wire format ---- */

/* A message, or what is left of it. */
typedef struct Wire {
  const char *path;
  const uint8_t *file, *at, *end;
} Wire;

typedef enum WireType { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 } WireType;

typedef struct Field {
  uint32_t number;
  WireType type;
  uint64_t value;    /* of varints and fixed numbers */
  Wire bytes;        /* of WIRE_BYTES */
  const uint8_t *at; /* where it begins */
} Field;

static bool broken(const Wire *wire, const uint8_t *at, Error *error, const char *what) {
  return error_set(error, ERROR_MODEL, "%s: byte %zu: %s: broken, or no SentencePiece model", wire->path,
                   (size_t)(at - wire->file), what);
}

static bool read_varint(Wire *wire, uint64_t *value, Error *error) {
  *value = 0;
  for (unsigned shift = 0; shift < 70; shift += 7) {
    if (wire->at == wire->end) return broken(wire, wire->at, error, "the file ends inside a number");
    const uint8_t byte = *wire->at++;
    if (shift < 64) *value |= (uint64_t)(byte & 0x7f) << shift;
    if (!(byte & 0x80)) return true;
  }
  return broken(wire, wire->at, error, "a number of more than ten bytes");
}

static bool read_fixed(Wire *wire, size_t size, uint64_t *value, Error *error) {
  if ((size_t)(wire->end - wire->at) < size)
    return broken(wire, wire->at, error, "the file ends inside a number");
  *value = 0;
  for (size_t i = 0; i < size; i++) *value |= (uint64_t)wire->at[i] << 8 * i;
  wire->at += size;
  return true;
}

/* The next field; *more false at the message's end. */
static bool next_field(Wire *wire, Field *field, bool *more, Error *error) {
  uint64_t key, size;
  *field = (Field){.at = wire->at};
  *more = wire->at < wire->end;
  if (!*more) return true;
  if (!read_varint(wire, &key, error)) return false;
  if (key >> 3 == 0 || key >> 3 > (1u << 29) - 1)
    return broken(wire, field->at, error, "no field has that number");
  field->number = (uint32_t)(key >> 3);
  field->type = (WireType)(key & 7);
  switch (key & 7) {
    case WIRE_VARINT:
      return read_varint(wire, &field->value, error);
    case WIRE_FIXED64:
      return read_fixed(wire, 8, &field->value, error);
    case WIRE_FIXED32:
      return read_fixed(wire, 4, &field->value, error);
    case WIRE_BYTES:
      if (!read_varint(wire, &size, error)) return false;
      if (size > (uint64_t)(wire->end - wire->at))
        return broken(wire, field->at, error, "a field is longer than what it stands in");
      field->bytes = (Wire){wire->path, wire->file, wire->at, wire->at + size};
      wire->at += size;
      return true;
    default:
      return broken(wire, field->at, error, "unknown wire type");
  }
}

static bool expect(const Wire *wire, const Field *field, WireType type, Error *error) {
  return field->type == type || broken(wire, field->at, error, "a field of another type than its number has");
}

static size_t field_size(const Field *field) {
  return (size_t)(field->bytes.end - field->bytes.at);
}

/* ---- the fields ---- */

static bool read_bool(const Wire *wire, const Field *field, bool *out, Error *error) {
  if (!expect(wire, field, WIRE_VARINT, error)) return false;
  *out = field->value != 0;
  return true;
}

/* A number from -1 on: an id, or that there is none. */
static bool read_id(const Wire *wire, const Field *field, int *out, Error *error) {
  if (!expect(wire, field, WIRE_VARINT, error)) return false;
  const int64_t value = (int64_t)field->value;
  if (value < INT_MIN || value > MAX_PIECES) return broken(wire, field->at, error, "an id out of range");
  *out = value < 0 ? -1 : (int)value;
  return true;
}

static bool read_name(const Wire *wire, const Field *field, char **out, Error *error) {
  if (!expect(wire, field, WIRE_BYTES, error)) return false;
  const size_t size = field_size(field);
  if (memchr(field->bytes.at, 0, size)) return broken(wire, field->at, error, "a name with a NUL in it");
  memory_free(*out);
  *out = memory_format("%.*s", (int)size, (const char *)field->bytes.at);
  return *out || error_out_of_memory(error, "piece", size);
}

static bool read_piece_field(const Wire *wire, const Field *field, SentencePiece *piece, Error *error) {
  if (field->number == 1) {
    if (!expect(wire, field, WIRE_BYTES, error)) return false;
    piece->text = (const char *)field->bytes.at;
    piece->bytes = field_size(field);
  } else if (field->number == 2) {
    if (!expect(wire, field, WIRE_FIXED32, error)) return false;
    const uint32_t bits = (uint32_t)field->value;
    memcpy(&piece->score, &bits, sizeof bits);
    if (!isfinite(piece->score)) return broken(wire, field->at, error, "a score that is not finite");
  } else if (field->number == 3) {
    if (!expect(wire, field, WIRE_VARINT, error)) return false;
    if (field->value < PIECE_NORMAL || field->value > PIECE_BYTE)
      return broken(wire, field->at, error, "a piece of unknown type");
    piece->type = (PieceType)field->value;
  }
  return true;
}

static bool read_piece(SentencePieceModel *model, Wire wire, Error *error) {
  Field field;
  SentencePiece piece = {.type = PIECE_NORMAL};
  const uint8_t *begin = wire.at;
  for (bool more = true;;) {
    if (!next_field(&wire, &field, &more, error)) return false;
    if (!more) break;
    if (!read_piece_field(&wire, &field, &piece, error)) return false;
  }
  if (piece.bytes == 0) return broken(&wire, begin, error, "a piece without text");
  if (memchr(piece.text, 0, piece.bytes)) return broken(&wire, begin, error, "a piece with a NUL in it");
  if (model->count == MAX_PIECES) return broken(&wire, begin, error, "too many pieces");
  if (model->count == model->capacity) {
    const size_t capacity = model->capacity * 2 + 1024;
    SentencePiece *pieces = memory_resize(model->pieces, capacity * sizeof *pieces);
    if (!pieces) return error_out_of_memory(error, "pieces", capacity * sizeof *pieces);
    model->pieces = pieces;
    model->capacity = capacity;
  }
  model->pieces[model->count++] = piece;
  return true;
}

static bool read_trainer_field(SentencePieceModel *model, const Wire *wire, const Field *field,
                               Error *error) {
  switch (field->number) {
    case 3:
      if (!expect(wire, field, WIRE_VARINT, error)) return false;
      if (field->value < SENTENCEPIECE_UNIGRAM || field->value > SENTENCEPIECE_CHAR)
        return broken(wire, field->at, error, "unknown model_type");
      model->kind = (SentencePieceKind)field->value;
      return true;
    case 24:
      return read_bool(wire, field, &model->suffix, error);
    case 35:
      return read_bool(wire, field, &model->byte_fallback, error);
    case 40:
      return read_id(wire, field, &model->unk, error);
    case 41:
      return read_id(wire, field, &model->bos, error);
    case 42:
      return read_id(wire, field, &model->eos, error);
    case 43:
      return read_id(wire, field, &model->pad, error);
    case 45:
      return read_name(wire, field, &model->unk_piece, error);
    case 46:
      return read_name(wire, field, &model->bos_piece, error);
    case 47:
      return read_name(wire, field, &model->eos_piece, error);
    case 48:
      return read_name(wire, field, &model->pad_piece, error);
    default:
      return true;
  }
}

static bool read_normalizer_field(SentencePieceModel *model, const Wire *wire, const Field *field,
                                  Error *error) {
  switch (field->number) {
    case 2:
      if (!expect(wire, field, WIRE_BYTES, error)) return false;
      model->charsmap = (const char *)field->bytes.at;
      model->charsmap_bytes = field_size(field);
      return true;
    case 3:
      return read_bool(wire, field, &model->add_dummy_prefix, error);
    case 4:
      return read_bool(wire, field, &model->remove_extra_whitespaces, error);
    case 5:
      return read_bool(wire, field, &model->escape_whitespaces, error);
    default:
      return true;
  }
}

static bool read_denormalizer_field(SentencePieceModel *model, const Wire *wire, const Field *field,
                                    Error *error) {
  if (field->number != 2) return true;
  if (!expect(wire, field, WIRE_BYTES, error)) return false;
  model->denormalizes = field_size(field) > 0;
  return true;
}

typedef bool (*FieldReader)(SentencePieceModel *model, const Wire *wire, const Field *field, Error *error);

static bool read_message(SentencePieceModel *model, Wire wire, FieldReader reader, Error *error) {
  Field field;
  for (bool more = true;;) {
    if (!next_field(&wire, &field, &more, error)) return false;
    if (!more) return true;
    if (!reader(model, &wire, &field, error)) return false;
  }
}

static bool read_model_field(SentencePieceModel *model, const Wire *wire, const Field *field, Error *error) {
  static const FieldReader readers[] = {
      [2] = read_trainer_field, [3] = read_normalizer_field, [5] = read_denormalizer_field};
  const bool known = field->number < sizeof readers / sizeof *readers && readers[field->number];
  if (field->number != 1 && !known) return true;
  if (!expect(wire, field, WIRE_BYTES, error)) return false;
  return known ? read_message(model, field->bytes, readers[field->number], error)
               : read_piece(model, field->bytes, error);
}

static bool read_file(SentencePieceModel *model, const char *path, Error *error) {
  if (!file_read(path, &model->file, error)) return false;
  if (model->file.size > MAX_FILE)
    return error_set(error, ERROR_MODEL, "%s: too large: %zu bytes, at most %d are read", path,
                     model->file.size, MAX_FILE);
  const uint8_t *bytes = (const uint8_t *)model->file.data;
  const Wire wire = {path, bytes, bytes, bytes + model->file.size};
  if (!read_message(model, wire, read_model_field, error)) return false;
  return model->count > 0 || error_set(error, ERROR_MODEL, "%s: no pieces: no SentencePiece model", path);
}

static bool set_default(char **name, const char *text, Error *error) {
  if (!*name) *name = memory_copy_string(text);
  return *name || error_out_of_memory(error, "piece", 0);
}

bool sentencepiece_open(SentencePieceModel *model, const char *path, Error *error) {
  /* what sentencepiece_model.proto says of fields that are absent */
  *model = (SentencePieceModel){.kind = SENTENCEPIECE_UNIGRAM,
                                .unk = 0,
                                .bos = 1,
                                .eos = 2,
                                .pad = -1,
                                .add_dummy_prefix = true,
                                .remove_extra_whitespaces = true,
                                .escape_whitespaces = true};
  if (read_file(model, path, error) && set_default(&model->unk_piece, "<unk>", error) &&
      set_default(&model->bos_piece, "<s>", error) && set_default(&model->eos_piece, "</s>", error) &&
      set_default(&model->pad_piece, "<pad>", error))
    return true;
  sentencepiece_close(model);
  return false;
}

void sentencepiece_close(SentencePieceModel *model) {
  buffer_free(&model->file);
  memory_free(model->pieces);
  memory_free(model->unk_piece);
  memory_free(model->bos_piece);
  memory_free(model->eos_piece);
  memory_free(model->pad_piece);
  *model = (SentencePieceModel){0};
}
