"""Small A64 programs that run a known number of known instructions between the marks of a region."""

from edgeslim.deploy.compile_c import compiled

REPEAT = 100

# The plugin's count -> instructions that belong there, written for the assembler.
INSTRUCTIONS = {
    "int": ("add x9, x9, #1", "eor x9, x9, x10", "lsl x9, x10, #3", "csel x9, x10, x11, eq"),
    "mul": ("madd x9, x10, x11, x12", "umulh x9, x10, x11"),
    "div": ("udiv x9, x10, x11", "sdiv w9, w10, w11"),
    "branch": ("b . + 4", "cbz xzr, . + 4"),
    "sys": ("nop", "dmb ish"),
    "ld": ("ldr x9, [sp]", "ldp x9, x10, [sp]", "ldrb w9, [sp]", "prfm pldl1keep, [sp]", "ldxr x9, [x13]"),
    "st": ("str x9, [x13]", "stp x9, x10, [x13]", "strh w9, [x13]", "stlr x9, [x13]"),
    "vld": ("ldr q1, [sp]", "ldp q1, q2, [sp]", "ld1 {v1.16b}, [x13]", "ldr s1, [sp]", "ld1r {v1.4s}, [x13]"),
    "vst": ("str q1, [x13]", "stp q1, q2, [x13]", "st1 {v1.16b}, [x13]", "str b1, [x13]"),
    "fma_vec": ("fmla v1.4s, v2.4s, v3.4s", "fmls v1.2d, v2.2d, v3.2d", "fmla v1.4s, v2.4s, v3.s[1]"),
    "fma_vec_fp16": ("fmla v1.8h, v2.8h, v3.8h", "fmls v1.4h, v2.4h, v3.4h", "fmla v1.8h, v2.8h, v3.h[1]"),
    "sdot_udot": (
        "sdot v1.4s, v2.16b, v3.16b", "udot v1.4s, v2.16b, v3.16b", "sdot v1.4s, v2.16b, v3.4b[1]",
        "udot v1.2s, v2.8b, v3.4b[3]", "usdot v1.4s, v2.16b, v3.16b", "sudot v1.4s, v2.16b, v3.4b[1]",
    ),
    "mmla": ("smmla v1.4s, v2.16b, v3.16b", "ummla v1.4s, v2.16b, v3.16b", "usmmla v1.4s, v2.16b, v3.16b"),
    "smlal_smull": (
        "smlal v1.4s, v2.4h, v3.4h", "smlal2 v1.8h, v2.16b, v3.16b", "umull v1.8h, v2.8b, v3.8b",
        "smlsl v1.4s, v2.4h, v3.4h", "smull v1.4s, v2.4h, v3.h[1]", "umlal v1.4s, v2.4h, v3.h[2]",
    ),
    "fp_scalar": ("fadd s1, s2, s3", "fmadd d1, d2, d3, d4", "scvtf s1, w9", "fmov w9, s1"),
    "fp_divsqrt": ("fdiv v1.4s, v2.4s, v3.4s", "fsqrt v1.4s, v2.4s", "fdiv s1, s2, s3", "fsqrt d1, d2"),
    "simd_other": (
        "add v1.4s, v2.4s, v3.4s", "fmul v1.4s, v2.4s, v3.4s", "dup v1.4s, w9",
        "tbl v1.16b, {v2.16b}, v3.16b",
    ),
}  # fmt: skip

_HEAD = """
#include <stdint.h>
#include <sys/prctl.h>
static uint8_t memory[1 << 20] __attribute__((aligned(4096)));
static inline void mark(int edge) { prctl(0x45444745, edge, 0, 0, 0); }
int main(void) {
    register void *place __asm__("x13") = memory;
    (void)place;
"""
_REGION = """
    mark(1);
    place = memory;
    __asm__ volatile({text} : "+r"(place) : : "x9", "x10", "x11", "x12", "v1", "v2", "v3", "v4", "memory");
    mark(2);
"""
# Reads a line of 64 bytes after the other, {lines} of them, from the start.
_PASS = """
    mark(1);
    __asm__ volatile("mov x9, %0\\n mov x10, {lines}\\n 1: ldr w11, [x9], #64\\n subs x10, x10, #1\\n b.ne 1b"
                     : : "r"(memory) : "x9", "x10", "x11", "memory", "cc");
    mark(2);
"""


def instruction_program(folder):
    """Build a program whose first two regions hold nothing, then REPEAT of each of INSTRUCTIONS in order; return it."""
    texts = ["", "", *(one for of in INSTRUCTIONS.values() for one in of)]
    regions = [
        _REGION.format(text=f'".arch armv8.6-a+fp16\\n.rept {REPEAT * bool(one)}\\n{one}\\n.endr"') for one in texts
    ]
    return _built(folder, regions)


def reading_program(folder, *lines):
    """Build a program with a region for each of `lines`: how many lines of memory it reads, from the same start."""
    return _built(folder, [_PASS.format(lines=count) for count in lines])


def _built(folder, regions):
    source = folder / "program.c"
    source.write_text(_HEAD + "".join(regions) + "    return 0;\n}\n")
    return compiled("program", "test_programs", "aarch64", [source], ("-O2",))
