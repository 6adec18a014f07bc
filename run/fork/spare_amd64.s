#include "textflag.h"

// The system calls here; linkers know no package unix.
#define SYS_write	1
#define SYS_nanosleep	35
#define SYS_clone	56
#define SYS_wait4	61
#define SYS_kill	62
#define SYS_getrlimit	97
#define SYS_exit_group	231
#define RLIMIT_NPROC	6
#define RLIMIT_NOFILE	7
#define SIGKILL		9
#define WALL		0x40000000
#define EAGAIN		11
#define EINTR		4

DATA	·words+0(SB)/8, $"skiff: c"
DATA	·words+8(SB)/8, $"annot st"
DATA	·words+16(SB)/8, $"art: the"
DATA	·words+24(SB)/8, $" limit o"
DATA	·words+32(SB)/8, $"f proces"
DATA	·words+40(SB)/8, $"ses is r"
DATA	·words+48(SB)/8, $"eached\nh"
DATA	·words+56(SB)/8, $"int: end"
DATA	·words+64(SB)/8, $" some, o"
DATA	·words+72(SB)/8, $"r raise "
DATA	·words+80(SB)/8, $"it (ulim"
DATA	·words+88(SB)/8, $"it -u)\n\x00"
GLOBL	·words(SB), RODATA|NOPTR, $96

DATA	·files+0(SB)/8, $"skiff: c"
DATA	·files+8(SB)/8, $"annot st"
DATA	·files+16(SB)/8, $"art: few"
DATA	·files+24(SB)/8, $"er than "
DATA	·files+32(SB)/8, $"8 open f"
DATA	·files+40(SB)/8, $"iles are"
DATA	·files+48(SB)/8, $" allowed"
DATA	·files+56(SB)/8, $"\nhint: r"
DATA	·files+64(SB)/8, $"aise the"
DATA	·files+72(SB)/8, $" limit ("
DATA	·files+80(SB)/8, $"ulimit -"
DATA	·files+88(SB)/8, $"n): 64 a"
DATA	·files+96(SB)/8, $"re enoug"
DATA	·files+104(SB)/8, $"h for a "
DATA	·files+112(SB)/8, $"containe"
DATA	·files+120(SB)/8, $"r\n\x00\x00\x00\x00\x00\x00"
GLOBL	·files(SB), RODATA|NOPTR, $128

DATA	·second+0(SB)/8, $1
DATA	·second+8(SB)/8, $0
GLOBL	·second(SB), RODATA|NOPTR, $16
GLOBL	·limit(SB), NOPTR, $16
GLOBL	·pids(SB), NOPTR, $256

// func entry()
//
// Where the kernel starts the program (the linker's -E), before anything of Go runs: see spare.go. At 0(SP) is argc, at 8(SP) argv[0].
TEXT ·entry(SB),NOSPLIT|NOFRAME,$0
	MOVQ	$SYS_getrlimit, AX
	MOVQ	$RLIMIT_NOFILE, DI
	LEAQ	·limit(SB), SI
	SYSCALL
	MOVQ	·limit+8(SB), AX // the hard one: Go raises the other to it
	LEAQ	·files(SB), SI
	MOVQ	$122, DX
	CMPQ	AX, $8
	JLO	say
	MOVQ	$SYS_getrlimit, AX
	MOVQ	$RLIMIT_NPROC, DI
	LEAQ	·limit(SB), SI
	SYSCALL
	MOVQ	·limit(SB), AX
	CMPQ	AX, $1024
	JHI	run
	MOVQ	8(SP), BX
	TESTQ	BX, BX
	JEQ	run
	CMPL	(BX), $0x66696b73 // "skif"
	JNE	front
	CMPW	4(BX), $0x2d66 // "f-"
	JEQ	run
front:
	MOVQ	$10, R12
	CALL	·children(SB)
	TESTQ	R14, R14
	JNE	run
	LEAQ	·words(SB), SI
	MOVQ	$95, DX
say:
	MOVQ	$SYS_write, AX
	MOVQ	$2, DI
	SYSCALL
	MOVQ	$SYS_exit_group, AX
	MOVQ	$125, DI
	SYSCALL
run:
	JMP	_rt0_amd64_linux(SB)

// func spare(n int) int
TEXT ·spare(SB),NOSPLIT|NOFRAME,$0-16
	MOVQ	n+0(FP), R12
	CALL	·children(SB)
	MOVQ	R14, ret+8(FP)
	RET

// children makes R12 processes (64 at most) that do nothing, and ends them again. R14 is 0 when the kernel had no room for so many, else 1.
TEXT ·children(SB),NOSPLIT|NOFRAME,$0
	XORQ	R13, R13
	MOVQ	$1, R14
more:
	CMPQ	R13, R12
	JGE	end
	MOVQ	$SYS_clone, AX
	XORQ	DI, DI // no signal at its end
	XORQ	SI, SI
	XORQ	DX, DX
	XORQ	R10, R10
	XORQ	R8, R8
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	JLT	none
	LEAQ	·pids(SB), BX
	MOVL	AX, (BX)(R13*4)
	INCQ	R13
	JMP	more
none:
	CMPQ	AX, $-EAGAIN
	JNE	end // whatever it is, it is not this limit
	XORQ	R14, R14
end:
	TESTQ	R13, R13
	JEQ	done
	DECQ	R13
	LEAQ	·pids(SB), BX
	MOVLQSX	(BX)(R13*4), DI
	MOVQ	$SIGKILL, SI
	MOVQ	$SYS_kill, AX
	SYSCALL
wait:
	LEAQ	·pids(SB), BX
	MOVLQSX	(BX)(R13*4), DI
	XORQ	SI, SI
	MOVQ	$WALL, DX
	XORQ	R10, R10
	MOVQ	$SYS_wait4, AX
	SYSCALL
	CMPQ	AX, $-EINTR
	JEQ	wait
	JMP	end
done:
	RET
child:
	LEAQ	·second(SB), DI // it ends by itself, should nobody be left to end it
	XORQ	SI, SI
	MOVQ	$SYS_nanosleep, AX
	SYSCALL
	XORQ	DI, DI
	MOVQ	$SYS_exit_group, AX
	SYSCALL
