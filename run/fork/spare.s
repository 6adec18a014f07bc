#include "textflag.h"

// What the routines of spare_*.s say and keep.

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
