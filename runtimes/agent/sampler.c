// Reads small files, and what a command prints, at a steady pace, and says what they held.
#define _GNU_SOURCE
#include "sampler.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "failure.h"
#include "messages.h"
#include "session.h"

enum { LARGEST_VALUE_BYTES = 64 * 1024 };
#ifndef COMMAND_LIMIT_S
#define COMMAND_LIMIT_S 5.0
#endif
extern char **environ;

// Reads to the end of the file, or until `until_s`; returns the bytes read, -1 if they are not all that there are.
static ssize_t read_value(int file, char *value, double until_s) {
    size_t length = 0;
    for (;;) {
        struct pollfd source = {.fd = file, .events = POLLIN};
        double left_s = until_s - now_s();
        if (left_s <= 0 || poll(&source, 1, (int)(left_s * 1000) + 1) == 0)
            return -1;
        ssize_t got = read(file, value + length, LARGEST_VALUE_BYTES - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got ? -1 : (ssize_t)length;
        length += (size_t)got;
        if (length == LARGEST_VALUE_BYTES)
            return -1;
    }
}

static ssize_t read_file(const char *path, char *value) {
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe that nobody writes to would be waited for
    if (file < 0)
        return -1;
    ssize_t length = read_value(file, value, now_s() + COMMAND_LIMIT_S);
    close(file);
    return length;
}

// Starts a program with its stdout in a pipe, of which the end to read from is returned; -1 if it cannot be started.
static int start(char **words, pid_t *child) {
    int ends[2];
    posix_spawn_file_actions_t actions;
    if (pipe2(ends, O_CLOEXEC))
        return -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    int error = posix_spawnp(child, words[0], &actions, NULL, words, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (!error)
        return ends[0];
    close(ends[0]);
    return -1;
}

// Waits for a program, which is killed if it is still there at `until_s`; returns whether it ended well.
static bool ends_well(pid_t child, double until_s) {
    static const struct timespec A_MOMENT = {.tv_nsec = 1000 * 1000};
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (now_s() >= until_s)
            kill(child, SIGKILL);
        nanosleep(&A_MOMENT, NULL);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static ssize_t read_command(char **words, char *value) {
    double until_s = now_s() + COMMAND_LIMIT_S;
    pid_t child;
    int file = start(words, &child);
    if (file < 0)
        return -1;
    ssize_t length = read_value(file, value, until_s);
    close(file);
    return ends_well(child, length < 0 ? 0 : until_s) ? length : -1;
}

static void add_value(struct Line *line, const char *value, ssize_t length) {
    if (length < 0)
        add_null(line, NULL);
    else
        add_bytes(line, NULL, value, (size_t)length - (length && value[length - 1] == '\n'));
}

static void tell_sample(const struct Options *options, char **words, char *value) {
    struct Line line;
    begin_line(&line, "sample");
    add_seconds(&line, "at_s", now_s());
    add_seconds(&line, "unix_s", unix_s());
    open_list(&line, "values");
    for (size_t i = 0; i < options->samples.count; i++)
        add_value(&line, value, read_file(options->samples.items[i], value));
    if (words)
        add_value(&line, value, read_command(words, value));
    close_list(&line);
    send_line(&line);
}

// The words of `text`, which is changed: spaces divide them, except between quotes. To be freed.
static char **split(char *text) {
    char **words = allocate(strlen(text) / 2 + 2, sizeof *words);
    char *target = text, quote = 0;
    size_t count = 0;
    bool inside = false;
    for (const char *at = text; *at; at++) {
        bool space = !quote && strchr(" \t\n", *at);
        if (space && inside)
            *target++ = 0;
        else if (!space && !inside)
            words[count++] = target;
        inside = !space;
        if (quote ? *at == quote : *at == '\'' || *at == '"')
            quote = quote ? 0 : *at;
        else if (!space)
            *target++ = *at;
    }
    *target = 0;
    if (quote || !count)
        fail(USAGE, "--sample-command: %s", quote ? "a quote is not closed" : "a program's name was expected");
    return words;
}

void run_sampler(const struct Options *options) {
    char *command = options->sample_command ? copy_text(options->sample_command) : NULL;
    char **words = command ? split(command) : NULL;
    char *value = allocate(LARGEST_VALUE_BYTES, 1);
    say_hello("none", NULL, NULL);
    start_heartbeat();
    double began_s = now_s(), at_s = began_s;
    double end_s = options->max_duration_s > 0 ? began_s + options->max_duration_s : 1e300;
    bool heard = true;
    while (heard && at_s < end_s) {
        tell_sample(options, words, value);
        // The next beat that is not over: what took longer than a period leaves a gap, and no later one shifts.
        do
            at_s += options->period_s;
        while (at_s < now_s());
        heard = wait_while_heard(at_s < end_s ? at_s : end_s) == 0;
    }
    stop_heartbeat();
    free(value);
    free(words);
    free(command);
    if (!heard)
        return;
    struct Line line;
    begin_line(&line, "done");
    send_line(&line);
}
