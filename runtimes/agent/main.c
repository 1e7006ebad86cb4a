// Runs one model on this device, or reads its sensors, and reports in JSON lines what happened (../PROTOCOL.md).
#define _GNU_SOURCE
#include "memory.h"
#include "messages.h"
#include "options.h"
#include "sampler.h"
#include "session.h"

int main(int count, char **words) {
    volunteer_for_the_oom_killer();
    take_stdout();
    struct Options options = read_options(count, words);
    if (options.log)
        open_log(options.log);
    if (options.samples.count || options.sample_command)
        run_sampler(&options);
    else
        run_session(&options);
    free_options(&options);
    return 0;
}
