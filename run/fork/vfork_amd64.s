#include "textflag.h"

// func vforkCall(nr, a0, a1 uintptr) (r, errno uintptr)
//
// A system call that returns twice on one stack: first in the child, which goes on to use the stack below this frame and so would overwrite the return
// address; it waits in R12, which the kernel preserves, and is put back in each of the two.
TEXT ·vforkCall(SB),NOSPLIT|NOFRAME,$0-40
	MOVQ	nr+0(FP), AX
	MOVQ	a0+8(FP), DI
	MOVQ	a1+16(FP), SI
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	XORL	R9, R9
	POPQ	R12
	SYSCALL
	PUSHQ	R12
	CMPQ	AX, $0xfffffffffffff001
	JLS	done
	NEGQ	AX
	MOVQ	$-1, r+24(FP)
	MOVQ	AX, errno+32(FP)
	RET
done:
	MOVQ	AX, r+24(FP)
	MOVQ	$0, errno+32(FP)
	RET
