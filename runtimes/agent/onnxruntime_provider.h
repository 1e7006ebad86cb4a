// Who, other than the CPU, is to run a model's nodes in ONNX Runtime.
#ifndef ONNXRUNTIME_PROVIDER_H
#define ONNXRUNTIME_PROVIDER_H

#include "onnxruntime_interface.h"
#include "options.h"

// Asks for the wanted execution provider, and that nothing falls back to the CPU where that was wanted; nothing is done
// for the CPU's own. Fails as MISSING_RUNTIME where this build has none of that name or it cannot be loaded, and as
// OLD_RUNTIME.
void append_provider(const struct OrtFunctions *ort, SessionOptions *options, const struct Options *wanted);

#endif
