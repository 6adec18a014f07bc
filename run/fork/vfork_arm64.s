#include "textflag.h"

// func vforkCall(nr, a0, a1 uintptr) (r, errno uintptr)
//
// A system call that returns twice on one stack. The return address is in R30, which the kernel preserves.
TEXT ·vforkCall(SB),NOSPLIT|NOFRAME,$0-40
	MOVD	nr+0(FP), R8
	MOVD	a0+8(FP), R0
	MOVD	a1+16(FP), R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$0, R5
	SVC
	CMN	$4095, R0
	BCC	done
	MOVD	$-1, R4
	MOVD	R4, r+24(FP)
	NEG	R0, R0
	MOVD	R0, errno+32(FP)
	RET
done:
	MOVD	R0, r+24(FP)
	MOVD	$0, R1
	MOVD	R1, errno+32(FP)
	RET
