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
