// SYNTAX TEST "source.a64" "GNU as with preprocessor, as in a kernel's entry code"

#include <linux/linkage.h>
//<- punctuation.definition.directive.a64
// ^^^^^ keyword.control.directive.a64
//       ^^^^^^^^^^^^^^^^^^ string.quoted.other.lt-gt.include.a64
        .macro  kernel_entry, el, regsize = 64
//      ^ punctuation.definition.directive.a64
//       ^^^^^ keyword.control.directive.gnu.a64
        .if     \el == 0
//              ^^^ variable.parameter.macro.a64
        stp     x0, x1, [sp, #16 * 0]
//      ^^^ support.function.memory.a64
//              ^^ variable.language.register.a64
//                       ^^ variable.language.register.a64
//                           ^^^ constant.numeric.decimal.a64
        mrs     x22, elr_el1 /* the return address */
//      ^^^ keyword.other.system.a64
//                   ^^^^^^^ support.variable.system-register.a64
//                           ^^^^^^^^^^^^^^^^^^^^^^^^ comment.block.a64
        add     x21, sp, x3, lsl #3
//      ^^^ support.function.integer.a64
//                           ^^^ keyword.operator.shift.a64
        csel    w0, w1, wzr, ne
//      ^^^^ support.function.integer.a64
//                      ^^^ variable.language.register.a64
//                           ^^ keyword.operator.condition.a64
        b.eq    1f
//      ^ keyword.control.flow.a64
//        ^^ keyword.operator.condition.a64
//              ^^ entity.name.label.local.a64
        tbnz    x19, #0, 2b
//      ^^^^ keyword.control.flow.a64
        hvc     #1
//      ^^^ keyword.control.exception.a64
        dsb     ishst
//      ^^^ keyword.other.system.a64
//              ^^^^^ constant.language.option.a64
        fadd    v0.4s, v1.4s, v2.s[1]
//      ^^^^ support.function.simd.a64
//              ^^^^^ variable.language.register.a64
        add     x0, x0, :lo12:ms_hyperv
//                      ^^^^^^ keyword.operator.relocation.a64
1:      ret
//<- entity.name.function.label.a64
//      ^^^ keyword.control.flow.a64
SYM_FUNC_END(hv_do_hypercall)
        .ascii  "a \"string\"\n"
//              ^ string.quoted.double.a64
//                 ^^ constant.character.escape.a64
