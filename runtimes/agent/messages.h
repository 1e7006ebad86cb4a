// What the agent says: JSON objects, one a line, to the log first and then to stdout; and the heartbeat.
#ifndef MESSAGES_H
#define MESSAGES_H

#include <stddef.h>
#include <stdint.h>

// One message while it is built. Every function that adds a value takes its key, NULL inside a list.
struct Line {
    char *text;
    size_t length, capacity;
};

// Keeps stdout for messages alone, a failure's among them: from here on whatever is printed goes to stderr.
void take_stdout(void);

// Has every message written to `path` and synced before it is sent, and the process survive when stdout is gone.
void open_log(const char *path);

// Sends `heartbeat` whenever nothing was said for HEARTBEAT_S, until it is stopped.
void start_heartbeat(void);
void stop_heartbeat(void);

// Waits until `until_s` on CLOCK_MONOTONIC, or until nobody reads stdout any more: then it returns -1, else 0.
int wait_while_heard(double until_s);

void begin_line(struct Line *line, const char *type);
void add_text(struct Line *line, const char *key, const char *text);  // NULL: null
void add_bytes(struct Line *line, const char *key, const char *bytes, size_t count);
void add_seconds(struct Line *line, const char *key, double seconds);
void add_integer(struct Line *line, const char *key, int64_t value);
void add_null(struct Line *line, const char *key);
void open_list(struct Line *line, const char *key);
void close_list(struct Line *line);
void open_object(struct Line *line);  // inside a list
void close_object(struct Line *line);
void send_line(struct Line *line);  // and frees it

#endif
