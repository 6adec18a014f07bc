#include "textflag.h"

// The system calls here; linkers know no package unix.
#define SYS_write	64
#define SYS_exit_group	94
#define SYS_nanosleep	101
#define SYS_kill	129
#define SYS_getrlimit	163
#define SYS_clone	220
#define SYS_wait4	260
#define RLIMIT_NPROC	6
#define RLIMIT_NOFILE	7
#define SIGKILL		9
#define WALL		0x40000000
#define EAGAIN		11
#define EINTR		4

// func entry()
//
// Where the kernel starts the program (the linker's -E), before anything of Go runs: see spare.go. At 0(RSP) is argc, at 8(RSP) argv[0].
TEXT ·entry(SB),NOSPLIT|NOFRAME,$0
	MOVD	$RLIMIT_NOFILE, R0
	MOVD	$·limit(SB), R1
	MOVD	$SYS_getrlimit, R8
	SVC
	MOVD	·limit+8(SB), R0 // the hard one: Go raises the other to it
	MOVD	$·files(SB), R1
	MOVD	$122, R2
	CMP	$8, R0
	BLO	say
	MOVD	$RLIMIT_NPROC, R0
	MOVD	$·limit(SB), R1
	MOVD	$SYS_getrlimit, R8
	SVC
	MOVD	·limit(SB), R0
	MOVD	$1024, R1
	CMP	R1, R0
	BHI	run
	MOVD	8(RSP), R1
	CBZ	R1, run
	MOVWU	(R1), R0
	MOVD	$0x66696b73, R2 // "skif"
	CMPW	R2, R0
	BNE	front
	MOVHU	4(R1), R0
	MOVD	$0x2d66, R2 // "f-"
	CMPW	R2, R0
	BEQ	run
front:
	MOVD	$10, R19
	BL	·children(SB)
	CBNZ	R21, run
	MOVD	$·words(SB), R1
	MOVD	$95, R2
say:
	MOVD	$2, R0
	MOVD	$SYS_write, R8
	SVC
	MOVD	$125, R0
	MOVD	$SYS_exit_group, R8
	SVC
run:
	B	_rt0_arm64_linux(SB)

// func spare(n int) int
TEXT ·spare(SB),NOSPLIT,$16-16
	MOVD	n+0(FP), R19
	BL	·children(SB)
	MOVD	R21, ret+8(FP)
	RET

// children makes R19 processes (64 at most) that do nothing, and ends them again. R21 is 0 when the kernel had no room for so many, else 1.
TEXT ·children(SB),NOSPLIT|NOFRAME,$0
	MOVD	ZR, R20
	MOVD	$1, R21
	MOVD	$·pids(SB), R22
more:
	CMP	R19, R20
	BGE	end
	MOVD	ZR, R0 // no signal at its end
	MOVD	ZR, R1
	MOVD	ZR, R2
	MOVD	ZR, R3
	MOVD	ZR, R4
	MOVD	$SYS_clone, R8
	SVC
	CBZ	R0, child
	CMP	$0, R0
	BLT	none
	MOVW	R0, (R22)(R20<<2)
	ADD	$1, R20
	B	more
none:
	CMN	$EAGAIN, R0
	BNE	end // whatever it is, it is not this limit
	MOVD	ZR, R21
end:
	CBZ	R20, done
	SUB	$1, R20
	MOVW	(R22)(R20<<2), R0
	MOVD	$SIGKILL, R1
	MOVD	$SYS_kill, R8
	SVC
wait:
	MOVW	(R22)(R20<<2), R0
	MOVD	ZR, R1
	MOVD	$WALL, R2
	MOVD	ZR, R3
	MOVD	$SYS_wait4, R8
	SVC
	CMN	$EINTR, R0
	BEQ	wait
	B	end
done:
	RET
child:
	MOVD	$·second(SB), R0 // it ends by itself, should nobody be left to end it
	MOVD	ZR, R1
	MOVD	$SYS_nanosleep, R8
	SVC
	MOVD	ZR, R0
	MOVD	$SYS_exit_group, R8
	SVC
