// What the agent says: JSON objects, one a line, to the log first and then to stdout; and the heartbeat.
#define _GNU_SOURCE
#include "messages.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "failure.h"

#ifndef HEARTBEAT_S
#define HEARTBEAT_S 5.0
#endif

enum { HEARTBEAT_STACK_BYTES = 256 * 1024, LAST_WORDS_BYTES = 52 * 1024 };

static int out = -1, logged = -1;  // the stdout kept for messages, and the log
static pthread_mutex_t speaking = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t stopped;
static pthread_t heart;
static bool beating;
static double spoke_s;  // when something was said last

// Has file descriptors 0 to 2 lead nowhere where the process began without them: a file opened later would get their
// numbers, and with them what libraries print.
static void fill_standard_files(void) {
    int file;
    do
        file = open("/dev/null", O_RDWR);
    while (file >= 0 && file <= STDERR_FILENO);
    close(file);
}

// Sends the error message and lets nothing be sent after it; memory may have run out.
static void send_last_words(const char *reason, const char *message);

void take_stdout(void) {
    tell_failures_with(send_last_words);
    fill_standard_files();
    out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    spoke_s = now_s();
}

void open_log(const char *path) {
    logged = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (logged < 0)
        fail(WRITE_FAILED, "%s: %s", path, strerror(errno));
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
}

static int write_all(int file, const char *text, size_t length) {
    while (length) {
        ssize_t written = write(file, text, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -1;
        text += written;
        length -= (size_t)written;
    }
    return 0;
}

// Appends to the log, whole or not at all; returns -1 for the latter, with its reason in `errno`.
static int keep(const char *text, size_t length) {
    off_t end = lseek(logged, 0, SEEK_CUR);
    if (end >= 0 && write_all(logged, text, length) == 0 && fdatasync(logged) == 0)
        return 0;
    int error = errno;
    if (ftruncate(logged, end) == 0)
        lseek(logged, end, SEEK_SET);
    errno = error;
    return -1;
}

// To the log and to stdout; returns -1 if the log cannot be written. Called with `speaking` held.
static int say(const char *text, size_t length) {
    spoke_s = now_s();
    if (logged >= 0 && keep(text, length))
        return -1;
    if (out >= 0 && write_all(out, text, length)) {
        // With a log nobody needs to listen; without one there is no reason to go on.
        if (logged < 0)
            _exit(1);
        close(out);
        out = -1;
    }
    return 0;
}

void send_line(struct Line *line) {
    close_object(line);
    pthread_mutex_lock(&speaking);
    line->text[line->length] = '\n';  // `grow` keeps room for it
    int error = say(line->text, line->length + 1) ? errno : 0;
    pthread_mutex_unlock(&speaking);
    if (error)
        fail(WRITE_FAILED, "the log: %s", strerror(error));
    free(line->text);
    *line = (struct Line){0};
}

// The beat of a heart: sleeps until HEARTBEAT_S after the last message, and speaks if it still is the last.
static void *beat(void *nothing) {
    pthread_mutex_lock(&speaking);
    while (beating) {
        if (now_s() >= spoke_s + HEARTBEAT_S) {
            char text[80];
            int length = snprintf(text, sizeof text, "{\"type\":\"heartbeat\",\"at_s\":%.6f}\n", now_s());
            say(text, (size_t)length);  // a log that cannot be written is told by the next message
        }
        struct timespec until = timespec_of(spoke_s + HEARTBEAT_S);
        pthread_cond_timedwait(&stopped, &speaking, &until);
    }
    pthread_mutex_unlock(&speaking);
    return nothing;
}

void start_heartbeat(void) {
    pthread_condattr_t monotonic;
    pthread_attr_t small;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&stopped, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, HEARTBEAT_STACK_BYTES);
    beating = true;
    int error = pthread_create(&heart, &small, beat, NULL);
    pthread_attr_destroy(&small);
    if (error)
        fail(OUT_OF_MEMORY, "a thread cannot be started: %s", strerror(error));
}

void stop_heartbeat(void) {
    pthread_mutex_lock(&speaking);
    beating = false;
    pthread_cond_signal(&stopped);
    pthread_mutex_unlock(&speaking);
    pthread_join(heart, NULL);
    pthread_cond_destroy(&stopped);
}

int wait_while_heard(double until_s) {
    for (double left_s = until_s - now_s(); left_s > 0; left_s = until_s - now_s()) {
        struct pollfd reader = {.fd = out, .events = 0};  // POLLERR: the last reader has closed its end
        struct timespec left = timespec_of(left_s);
        if (ppoll(&reader, 1, &left, NULL) > 0)
            return -1;
    }
    return 0;
}

static void grow(struct Line *line, size_t more) {
    size_t needed = line->length + more + 2;  // a newline and what snprintf ends its text with
    if (needed <= line->capacity)
        return;
    line->capacity = needed + needed / 2 + 128;
    line->text = reallocate(line->text, line->capacity, 1);
}

static void add(struct Line *line, const char *text, size_t length) {
    grow(line, length);
    memcpy(line->text + line->length, text, length);
    line->length += length;
}

// The length of the valid UTF-8 sequence that begins here, 0 if none does.
static size_t utf8_length(const unsigned char *bytes, size_t left) {
    size_t length = bytes[0] < 0x80       ? 1
                    : bytes[0] >> 5 == 6  ? 2
                    : bytes[0] >> 4 == 14 ? 3
                    : bytes[0] >> 3 == 30 ? 4
                                          : 0;
    if (!length || length > left)
        return 0;
    uint32_t point = length == 1 ? bytes[0] : bytes[0] & (0x7F >> length);
    for (size_t i = 1; i < length; i++) {
        if (bytes[i] >> 6 != 2)
            return 0;
        point = point << 6 | (bytes[i] & 0x3F);
    }
    static const uint32_t SMALLEST[] = {0, 0, 0x80, 0x800, 0x10000};
    bool is_character = point >= SMALLEST[length] && point <= 0x10FFFF && (point < 0xD800 || point > 0xDFFF);
    return is_character ? length : 0;
}

static size_t escaped(char target[8], const unsigned char *bytes, size_t left, size_t *used) {
    *used = 1;
    if (bytes[0] == '"' || bytes[0] == '\\')
        return (size_t)sprintf(target, "\\%c", bytes[0]);
    if (bytes[0] < 0x20)
        return (size_t)sprintf(target, "\\u%04x", bytes[0]);
    size_t length = utf8_length(bytes, left);
    if (!length)
        return (size_t)sprintf(target, "\\ufffd");  // JSON cannot hold the byte
    memcpy(target, bytes, length);
    *used = length;
    return length;
}

static void add_key(struct Line *line, const char *key) {
    char last = line->length ? line->text[line->length - 1] : '[';
    if (last != '[' && last != '{')
        add(line, ",", 1);
    if (!key)
        return;
    add(line, "\"", 1);
    add(line, key, strlen(key));
    add(line, "\":", 2);
}

void begin_line(struct Line *line, const char *type) {
    *line = (struct Line){0};
    add(line, "{", 1);
    add_text(line, "type", type);
}

void add_bytes(struct Line *line, const char *key, const char *bytes, size_t count) {
    add_key(line, key);
    add(line, "\"", 1);
    char piece[8];
    for (size_t at = 0, used; at < count; at += used) {
        size_t length = escaped(piece, (const unsigned char *)bytes + at, count - at, &used);
        add(line, piece, length);
    }
    add(line, "\"", 1);
}

void add_text(struct Line *line, const char *key, const char *text) {
    if (text)
        add_bytes(line, key, text, strlen(text));
    else
        add_null(line, key);
}

void add_seconds(struct Line *line, const char *key, double seconds) {
    char digits[64];
    add_key(line, key);
    add(line, digits, (size_t)snprintf(digits, sizeof digits, "%.9f", seconds));
}

void add_integer(struct Line *line, const char *key, int64_t value) {
    char digits[32];
    add_key(line, key);
    add(line, digits, (size_t)snprintf(digits, sizeof digits, "%lld", (long long)value));
}

void add_null(struct Line *line, const char *key) {
    add_key(line, key);
    add(line, "null", 4);
}

void open_list(struct Line *line, const char *key) {
    add_key(line, key);
    add(line, "[", 1);
}

void close_list(struct Line *line) {
    add(line, "]", 1);
}

void open_object(struct Line *line) {
    add_key(line, NULL);
    add(line, "{", 1);
}

void close_object(struct Line *line) {
    add(line, "}", 1);
}

static void send_last_words(const char *reason, const char *message) {
    static char text[LAST_WORDS_BYTES];  // room for a message of which every byte is escaped
    pthread_mutex_lock(&speaking);       // for good: nothing comes after the last words
    size_t length = (size_t)sprintf(text, "{\"type\":\"error\",\"reason\":\"%s\",\"message\":\"", reason);
    size_t left = strlen(message);
    for (size_t used; left && length + 16 < sizeof text; message += used, left -= used)
        length += escaped(text + length, (const unsigned char *)message, left, &used);
    length += (size_t)sprintf(text + length, "\"}\n");
    if (say(text, length)) {
        logged = -1;  // whoever listens gets to know it all the same
        say(text, length);
    }
}
