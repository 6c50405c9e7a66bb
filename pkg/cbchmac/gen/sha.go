package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// roundConstants are those of FIPS 180-4 section 4.2.2.
var roundConstants = [64]uint32{
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}

var kTab, swap Mem

func consts() {
	kTab = GLOBL("shaRounds", RODATA|NOPTR)
	for i, k := range roundConstants {
		DATA(4*i, U32(k))
	}
	swap = GLOBL("swapWords", RODATA|NOPTR)
	for i := range 4 {
		DATA(16*i, U64(0x0405060700010203))
		DATA(16*i+8, U64(0x0c0d0e0f08090a0b))
	}
}

// The imm8 of VPTERNLOG: bit 4a+2b+c says what comes out, where a is the register
// that is overwritten.
const (
	ternXor = 0x96
	ternCh  = 0xca // a ? b : c
	ternMaj = 0xe8
)

// sha16 compresses a block of each of sixteen messages: registers 0 to 7 hold the
// working variables of all lanes, 16 to 31 the message schedule.
func sha16() {
	TEXT("sha16", NOSPLIT, "func(lanes *byte) uint32")
	Pragma("noescape")
	Doc("sha16 compresses blocks of sixteen lanes by AVX-512.")
	lanes, k := reg.RSI, reg.RDI
	Load(Param("lanes"), lanes)
	LEAQ(kTab, k)
	quadMasks()
	VMOVDQU64(swap, z(15))
	for i := range 8 {
		VMOVDQU32(m(lanes, shaH+64*i), z(i))
	}
	Label("block")
	words(lanes)
	for i := range 64 {
		round(k, i)
	}
	for i := range 8 {
		VPADDD(m(lanes, shaH+64*i), z(i), z(i))
		VMOVDQU32(z(i), m(lanes, shaH+64*i))
	}
	advance(lanes, shaWide, shaPtr, shaStep, shaLeft, 0)
	JEQ(LabelRef("block"))
	wipe(true)
	Store(reg.EAX, ReturnIndex(0))
	RET()
}

// words reads a block of each lane and leaves word j of all in register 16+j. Lane
// 4c+r of the sixteen goes to the 128 bits c of the registers that begin as r, so that turning
// four by four words within these is all that is left.
func words(lanes reg.Register) {
	at := [4]reg.Register{reg.R8, reg.R9, reg.R10, reg.R11}
	for r := range 4 {
		for c := range 4 {
			MOVQ(m(lanes, shaPtr+8*(4*c+r)), at[c])
		}
		for q := range 4 {
			gather(at, 16*q, 16+4*q+r)
		}
	}
	for q := range 4 {
		w := func(j int) reg.VecPhysical { return z(16 + 4*q + j) }
		for j := range 4 {
			VPSHUFB(z(15), w(j), w(j))
		}
		VPUNPCKLDQ(w(1), w(0), z(8))
		VPUNPCKHDQ(w(1), w(0), z(9))
		VPUNPCKLDQ(w(3), w(2), z(10))
		VPUNPCKHDQ(w(3), w(2), z(11))
		VPUNPCKLQDQ(z(10), z(8), w(0))
		VPUNPCKHQDQ(z(10), z(8), w(1))
		VPUNPCKLQDQ(z(11), z(9), w(2))
		VPUNPCKHQDQ(z(11), z(9), w(3))
	}
}

// round is round i (FIPS 180-4 section 6.2.2), and the word of the schedule that
// takes the place of the one used. The sum for e is built so that the chain from one
// e to the next is a rotation, an XOR and one addition.
func round(k reg.Register, i int) {
	v := func(n int) reg.VecPhysical { return z((n - i%8 + 8) % 8) }
	w := func(n int) reg.VecPhysical { return z(16 + n%16) }
	a, b, c, d, e, f, g, h := v(0), v(1), v(2), v(3), v(4), v(5), v(6), v(7)

	VPADDD_BCST(m(k, 4*i), w(i), z(8))
	VMOVDQA32(e, z(9))
	VPTERNLOGD(U8(ternCh), g, f, z(9))
	VPADDD(z(8), h, h)
	VPADDD(z(9), h, h) // h + K + W + Ch
	VPRORD(U8(6), e, z(10))
	VPRORD(U8(11), e, z(11))
	VPRORD(U8(25), e, z(12))
	VPTERNLOGD(U8(ternXor), z(10), z(11), z(12))
	VPADDD(h, d, d)
	VPADDD(z(12), d, d) // the new e
	VPADDD(z(12), h, h)

	VMOVDQA32(a, z(9))
	VPTERNLOGD(U8(ternMaj), b, c, z(9))
	VPRORD(U8(2), a, z(10))
	VPRORD(U8(13), a, z(11))
	VPRORD(U8(22), a, z(12))
	VPTERNLOGD(U8(ternXor), z(10), z(11), z(12))
	VPADDD(z(9), h, h)
	VPADDD(z(12), h, h) // the new a

	if i >= 48 {
		return
	}
	VPRORD(U8(7), w(i+1), z(8))
	VPRORD(U8(18), w(i+1), z(9))
	VPSRLD(U8(3), w(i+1), z(10))
	VPTERNLOGD(U8(ternXor), z(8), z(9), z(10))
	VPADDD(w(i+9), w(i), w(i))
	VPRORD(U8(17), w(i+14), z(11))
	VPRORD(U8(19), w(i+14), z(12))
	VPSRLD(U8(10), w(i+14), z(13))
	VPTERNLOGD(U8(ternXor), z(11), z(12), z(13))
	VPADDD(z(10), w(i), w(i))
	VPADDD(z(13), w(i), w(i))
}
