// Whether a file is a whole TensorFlow Lite model: LiteRT does not look, and reads beyond the end of one cut short.
#ifndef TFLITE_FILE_H
#define TFLITE_FILE_H

// Fails as UNREADABLE_MODEL, with what is wrong.
void check_tflite_file(const char *path);

#endif
