// SPDX-License-Identifier: GPL-2.0-or-later
// A plugin of QEMU's user emulation: counts A64 instructions by class, and cache misses, while a program runs.
//
//     qemu-aarch64 -plugin count_plugin.so,out=FILE[,l1=BYTES:WAYS][,l2=BYTES:WAYS][,l3=BYTES:WAYS][,clock=on] PROGRAM
//
// FILE gets a JSON object a line, with what was counted since the region began. A region lies between two calls of
// prctl(0x45444745, 1) and prctl(0x45444745, 2), which no kernel knows: on hardware they do nothing. `clock=on` adds
// what was counted up to each time the program asks for the time inside a region, which is how a runtime's profiler cuts
// an inference into operators. The last line, {"region": "process"}, holds the whole run: without it FILE is not whole.
//
// The caches are set-associative with lines of 64 bytes, allocate on reads and writes, and replace the line that was
// used least recently; they are looked up by virtual address. One that is asked for needs those before it.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin_api.h"

EXPORTED int qemu_plugin_version = 1;

enum { MARK = 0x45444745, BEGIN = 1, END = 2, SYS_PRCTL = 167, SYS_CLOCK_GETTIME = 113, LINE_SHIFT = 6, LEVELS = 3 };

enum Count {
    INT, MUL, DIV, BRANCH, SYS, LD, ST, VLD, VST, FMA_VEC, FMA_VEC_FP16, SDOT_UDOT, MMLA, SMLAL_SMULL, FP_SCALAR,
    SIMD_OTHER, FP_DIVSQRT, SVE,
    CLASSES,
    MEM_ACCESS = CLASSES, MEM_BYTES, L1D_MISS, L2_MISS, L3_MISS,
    COUNTS
};

static const char *const NAMES[COUNTS] = {
    [INT] = "int", [MUL] = "mul", [DIV] = "div", [BRANCH] = "branch", [SYS] = "sys", [LD] = "ld", [ST] = "st",
    [VLD] = "vld", [VST] = "vst", [FMA_VEC] = "fma_vec", [FMA_VEC_FP16] = "fma_vec_fp16", [SDOT_UDOT] = "sdot_udot",
    [MMLA] = "mmla", [SMLAL_SMULL] = "smlal_smull", [FP_SCALAR] = "fp_scalar", [SIMD_OTHER] = "simd_other",
    [FP_DIVSQRT] = "fp_divsqrt", [SVE] = "sve", [MEM_ACCESS] = "mem_access", [MEM_BYTES] = "mem_bytes",
    [L1D_MISS] = "l1d_miss", [L2_MISS] = "l2_miss", [L3_MISS] = "l3_miss",
};

struct Encoding {
    uint32_t mask, value;
    enum Count count;
};

// The groups of A64 (Arm Architecture Reference Manual, DDI 0487, section C4.1), the first that fits.
static const struct Encoding GROUPS[] = {
    {0x1C000000, 0x10000000, INT},         // data processing, immediate
    {0xFE000000, 0xD4000000, SYS},         // exceptions, hints, barriers, system registers
    {0x1C000000, 0x14000000, BRANCH},
    {0x1F000000, 0x1B000000, MUL},         // data processing with three sources
    {0x7FE0F800, 0x1AC00800, DIV},         // UDIV, SDIV
    {0x0E000000, 0x0A000000, INT},         // data processing, register
    {0x1E000000, 0x04000000, SVE},
};

// Of the SIMD and floating-point instructions, those told apart; U and Q may be either where both are meant.
static const struct Encoding SIMD[] = {
    {0x9FE0FC00, 0x0E809400, SDOT_UDOT},     // SDOT, UDOT
    {0xBFE0FC00, 0x0E809C00, SDOT_UDOT},     // USDOT
    {0x9FC0F400, 0x0F80E000, SDOT_UDOT},     // SDOT, UDOT by element
    {0xBF40F400, 0x0F00F000, SDOT_UDOT},     // USDOT, SUDOT by element
    {0xDFE0FC00, 0x4E80A400, MMLA},          // SMMLA, UMMLA
    {0xFFE0FC00, 0x4E80AC00, MMLA},          // USMMLA
    {0xBF20FC00, 0x0E20CC00, FMA_VEC},       // FMLA, FMLS
    {0xBF80B400, 0x0F801000, FMA_VEC},       // by element
    {0xBF60FC00, 0x0E400C00, FMA_VEC_FP16},
    {0xBFC0B400, 0x0F001000, FMA_VEC_FP16},
    {0x9F20DC00, 0x0E208000, SMLAL_SMULL},   // SMLAL, SMLSL, UMLAL, UMLSL (opcode 10x0)
    {0x9F20FC00, 0x0E20C000, SMLAL_SMULL},   // SMULL, UMULL
    {0x9F00B400, 0x0F002000, SMLAL_SMULL},   // SMLAL, SMLSL, ... by element
    {0x9F00F400, 0x0F00A000, SMLAL_SMULL},   // SMULL, UMULL by element
    {0xBFA0FC00, 0x2E20FC00, FP_DIVSQRT},    // FDIV
    {0xBFE0FC00, 0x2E403C00, FP_DIVSQRT},    // of halves
    {0xBFBFFC00, 0x2EA1F800, FP_DIVSQRT},    // FSQRT
    {0xFF20FC00, 0x1E201800, FP_DIVSQRT},    // scalar FDIV
    {0xFF3FFC00, 0x1E21C000, FP_DIVSQRT},    // scalar FSQRT
    {0x5E000000, 0x1E000000, FP_SCALAR},
};

struct Cache {
    uint64_t sets;
    size_t ways;
    uint64_t *lines;  // of each set, the line used last comes first
};

static FILE *out;
static bool at_clock;
static struct Cache caches[LEVELS];
static int levels;
static uint64_t counted[COUNTS], at_begin[COUNTS];
static bool inside;
static unsigned inferences;

static enum Count find(const struct Encoding *table, size_t length, uint32_t word, enum Count otherwise) {
    for (size_t i = 0; i < length; i++)
        if ((word & table[i].mask) == table[i].value)
            return table[i].count;
    return otherwise;
}

#define FIND(table, word, otherwise) find(table, sizeof table / sizeof *table, word, otherwise)

// Whether a load or store writes memory; a prefetch counts as a load, an atomic read-modify-write by bit 22 or 23.
static bool stores(uint32_t word) {
    bool simd = word & 1u << 26;
    unsigned opc = word >> 22 & 3;
    if ((word & 0x3B000000) == 0x18000000)  // literal
        return false;
    if ((word & 0x3A000000) == 0x38000000)  // one register; of SIMD ones opc 2 stores 128 bits
        return opc == 0 || (simd && opc == 2);
    return !(opc & 1);  // pairs, exclusives, SIMD structures: bit 22 says load
}

static enum Count class_of(uint32_t word) {
    if ((word & 0x0A000000) == 0x08000000) {
        bool simd = word & 1u << 26;
        if (stores(word))
            return simd ? VST : ST;
        return simd ? VLD : LD;
    }
    if ((word & 0x0E000000) == 0x0E000000)
        return FIND(SIMD, word, SIMD_OTHER);
    return FIND(GROUPS, word, SYS);
}

static bool hits(struct Cache *cache, uint64_t line) {
    uint64_t *set = cache->lines + line % cache->sets * cache->ways;
    size_t way = 0;
    while (way < cache->ways - 1 && set[way] != line)
        way++;
    bool hit = set[way] == line;
    memmove(set + 1, set, way * sizeof *set);
    *set = line;
    return hit;
}

static void on_access(unsigned vcpu, qemu_plugin_meminfo_t access, uint64_t address, void *data) {
    (void)vcpu, (void)data;
    counted[MEM_ACCESS]++;
    counted[MEM_BYTES] += UINT64_C(1) << qemu_plugin_mem_size_shift(access);
    for (int level = 0; level < levels; level++) {
        if (hits(&caches[level], address >> LINE_SHIFT))
            return;
        counted[L1D_MISS + level]++;
    }
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    uint64_t in_block[CLASSES] = {0};
    size_t length = qemu_plugin_tb_n_insns(block);
    for (size_t i = 0; i < length; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(instruction), sizeof word);
        enum Count class = class_of(word);
        in_block[class]++;
        if (levels && class >= LD && class <= VST)
            qemu_plugin_register_vcpu_mem_cb(instruction, on_access, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, NULL);
    }
    for (int class = 0; class < CLASSES; class++)
        if (in_block[class])
            qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &counted[class],
                                                     in_block[class]);
}

static void tell(const char *region, const uint64_t *since) {
    uint64_t instructions = 0;
    for (int class = 0; class < CLASSES; class++)
        instructions += counted[class] - since[class];
    fprintf(out, "{\"region\": \"%s\", \"number\": %u, \"counts\": {\"insns\": %" PRIu64, region, inferences,
            instructions);
    for (int count = 0; count < (levels ? L1D_MISS + levels : CLASSES); count++)
        fprintf(out, ", \"%s\": %" PRIu64, NAMES[count], counted[count] - since[count]);
    fputs("}}\n", out);
    fflush(out);
}

static void on_syscall(qemu_plugin_id_t id, unsigned vcpu, int64_t number, uint64_t first, uint64_t second, uint64_t a,
                       uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f) {
    (void)id, (void)vcpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    if (number == SYS_PRCTL && first == MARK && second == BEGIN) {
        memcpy(at_begin, counted, sizeof counted);
        inside = true;
        inferences++;
    } else if (number == SYS_PRCTL && first == MARK && second == END && inside) {
        tell("inference", at_begin);
        inside = false;
    } else if (number == SYS_CLOCK_GETTIME && at_clock && inside) {
        tell("clock", at_begin);
    }
}

static void on_exit(qemu_plugin_id_t id, void *data) {
    static const uint64_t NOTHING[COUNTS];
    (void)id, (void)data;
    tell("process", NOTHING);
    fclose(out);
}

// From "32768:2"; false where that is no cache.
static bool make_cache(const char *text, struct Cache *cache) {
    uint64_t bytes;
    if (sscanf(text, "%" SCNu64 ":%zu", &bytes, &cache->ways) != 2 || cache->ways == 0)
        return false;
    cache->sets = (bytes >> LINE_SHIFT) / cache->ways;
    if (cache->sets == 0)
        return false;
    size_t size = cache->sets * cache->ways * sizeof *cache->lines;
    cache->lines = malloc(size);
    if (cache->lines)
        memset(cache->lines, 0xFF, size);
    return cache->lines != NULL;
}

static bool take(const char *argument) {
    if (!strncmp(argument, "out=", 4))
        return (out = fopen(argument + 4, "w")) != NULL;
    if (!strcmp(argument, "clock=on"))
        return at_clock = true;
    if (argument[0] == 'l' && argument[1] == '1' + levels && argument[2] == '=' && levels < LEVELS)
        return make_cache(argument + 3, &caches[levels++]);
    return false;
}

EXPORTED int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
    if (strcmp(info->target_name, "aarch64") || info->system_emulation) {
        fputs("count_plugin: it counts for qemu-aarch64 alone\n", stderr);
        return 1;
    }
    for (int i = 0; i < argc; i++)
        if (!take(argv[i])) {
            fprintf(stderr, "count_plugin: %s cannot be used\n", argv[i]);
            return 1;
        }
    if (!out) {
        fputs("count_plugin: out=FILE is missing\n", stderr);
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    qemu_plugin_register_atexit_cb(id, on_exit, NULL);
    return 0;
}
