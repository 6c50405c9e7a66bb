package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// cbc16 encrypts a block of each of sixteen chains, or four of each while all have
// as many. Each lane has round keys of its own, read in every round: a load is as
// cheap as the round itself. What costs is bringing blocks of sixteen places together:
// so four of a packet are read and written at once, and turned.
//
// Thirty-two chains would hide the latency of the rounds, but packets in buffers of 2
// KiB meet in a few sets of the first-level cache, which has room for sixteen.
//
//	0-3  chains    4-7  text of a block of each    8-11  of turning    16-31  four blocks of each
func cbc16() {
	TEXT("cbc16", NOSPLIT, "func(lanes *byte, rounds int) uint32")
	Pragma("noescape")
	Doc("cbc16 encrypts blocks of sixteen chains by VAES and AVX-512.")
	const n = cbcWide / 4
	lanes, rounds, last := reg.RSI, reg.RDI, reg.RBX
	Load(Param("lanes"), lanes)
	Load(Param("rounds"), rounds)
	MOVQ(rounds, last)
	SHLQ(Imm(8), last) // rows of round keys
	ADDQ(lanes, last)
	quadMasks()
	for g := range n {
		VMOVDQU64(m(lanes, cbcChain+64*g), z(g))
	}
	at := [4]reg.Register{reg.R8, reg.R9, reg.R10, reg.R11}
	pointers := func(g int) {
		for i := range 4 {
			MOVQ(m(lanes, cbcPtr+8*(4*g+i)), at[i])
		}
	}
	enc := func(r int) {
		for g := range n {
			VAESENC(m(lanes, cbcRK+cbcRow*r+64*g), z(g), z(g))
		}
	}
	// encrypt is the cipher over the chains, with the text of group g.
	encrypt := func(pre string, text func(g int) reg.VecPhysical) {
		for g := range n {
			VPTERNLOGQ(U8(ternXor), m(lanes, cbcRK+64*g), text(g), z(g))
		}
		for r := 1; r < 10; r++ {
			enc(r)
		}
		for r := 10; r < 14; r += 2 {
			CMPQ(rounds, Imm(uint64(r)))
			JEQ(LabelRef(pre + "last"))
			enc(r)
			enc(r + 1)
		}
		Label(pre + "last")
		for g := range n {
			VAESENCLAST(m(last, cbcRK+64*g), z(g), z(g))
		}
	}

	Label("block")
	VPTERNLOGD(U8(0xff), z(9), z(9), z(9))
	VPSRLD(U8(31), z(9), z(9))
	VPSLLD(U8(2), z(9), z(9))                       // 4
	VPCMPUD(U8(2), m(lanes, cbcLeft), z(9), reg.K4) // no more than what is left
	KORTESTW(reg.K4, reg.K4)                        // carry: everywhere
	JCC(LabelRef("single"))

	four := func(g, j int) reg.VecPhysical { return z(16 + 4*g + j) }
	for g := range n {
		pointers(g)
		for i := range 4 {
			VMOVDQU64(m(at[i], 0), four(g, i))
			PREFETCHT0(m(at[i], cbcAhead))
		}
		turn(four(g, 0), four(g, 1), four(g, 2), four(g, 3))
	}
	for j := range 4 {
		encrypt(fmt.Sprintf("four%d", j), func(g int) reg.VecPhysical { return four(g, j) })
		for g := range n {
			VMOVDQA64(z(g), four(g, j))
		}
	}
	for g := range n {
		pointers(g)
		turn(four(g, 0), four(g, 1), four(g, 2), four(g, 3))
		for i := range 4 {
			VMOVDQU64(four(g, i), m(at[i], 0))
		}
	}
	advance(lanes, cbcWide, cbcPtr, cbcStep, cbcLeft, 2)
	JEQ(LabelRef("block"))
	JMP(LabelRef("done"))

	Label("single")
	for g := range n {
		pointers(g)
		gather(at, 0, 4+g)
	}
	encrypt("one", func(g int) reg.VecPhysical { return z(4 + g) })
	for g := range n {
		pointers(g)
		VMOVDQU(x(g), m(at[0], 0))
		for i := 1; i < 4; i++ {
			VEXTRACTI32X4(U8(i), z(g), m(at[i], 0))
		}
	}
	advance(lanes, cbcWide, cbcPtr, cbcStep, cbcLeft, 0)
	JEQ(LabelRef("block"))

	Label("done")
	for g := range n {
		VMOVDQU64(z(g), m(lanes, cbcChain+64*g))
	}
	wipe(true)
	Store(reg.EAX, ReturnIndex(0))
	RET()
}

// turn exchanges quarters: quarter j of register i goes to quarter i of register j.
func turn(a, b, c, d reg.VecPhysical) {
	VSHUFI32X4(U8(0x44), b, a, z(8))
	VSHUFI32X4(U8(0xee), b, a, z(9))
	VSHUFI32X4(U8(0x44), d, c, z(10))
	VSHUFI32X4(U8(0xee), d, c, z(11))
	VSHUFI32X4(U8(0x88), z(10), z(8), a)
	VSHUFI32X4(U8(0xdd), z(10), z(8), b)
	VSHUFI32X4(U8(0x88), z(11), z(9), c)
	VSHUFI32X4(U8(0xdd), z(11), z(9), d)
}

// decrypt512 decrypts packets, four blocks to a register and four registers at a
// time. A key stays in registers while it is that of the packet before.
//
//	0-3  blocks    4-7  ciphertext, one block later    8-11  ciphertext
//	16-29, 30  round keys, the last one    31  ciphertext before
func decrypt512() {
	TEXT("decrypt512", NOSPLIT, "func(jobs *byte, n int)")
	Pragma("noescape")
	Doc("decrypt512 decrypts the packets that are not bad by VAES and AVX-512.")
	job, n, key, had := reg.RSI, reg.RDX, reg.R8, reg.R12
	text, rem, rounds := reg.R9, reg.R10, reg.R11
	Load(Param("jobs"), job)
	Load(Param("n"), n)
	XORL(had.As32(), had.As32())
	Label("job")
	MOVL(m(job, jobLen), rem.As32())
	MOVQ(m(job, jobText), text)
	MOVQ(m(job, jobKey), key)
	CMPQ(m(job, jobBad), Imm(0))
	JNE(LabelRef("next"))
	TESTQ(rem, rem)
	JEQ(LabelRef("next"))
	CMPQ(key, had)
	JEQ(LabelRef("same"))
	MOVQ(key, had)
	MOVL(m(key, ctxRounds), rounds.As32())
	for i := range 14 { // those that a shorter key has not are never used
		VBROADCASTI32X4(m(key, ctxDec+16*i), z(16+i))
	}
	MOVQ(rounds, reg.RAX)
	SHLQ(Imm(4), reg.RAX)
	VBROADCASTI32X4(Mem{Base: key, Disp: ctxDec, Index: reg.RAX, Scale: 1}, z(30))
	Label("same")
	VBROADCASTI32X4(m(text, -16), z(31)) // the IV; its upper end counts

	group := func(v int, tail bool, pre string) {
		masked := func(i int) bool { return tail && i == v-1 }
		for i := range v {
			if masked(i) {
				VMOVDQU64_Z(m(text, 64*i), reg.K1, z(8+i))
			} else {
				VMOVDQU64(m(text, 64*i), z(8+i))
			}
			VPXORQ(z(16), z(8+i), z(i))
		}
		dec := func(r int) {
			for i := range v {
				VAESDEC(z(16+r), z(i), z(i))
			}
		}
		for r := 1; r < 10; r++ {
			dec(r)
		}
		for i := range v {
			before := z(31)
			if i > 0 {
				before = z(8 + i - 1)
			}
			VALIGNQ(U8(6), before, z(8+i), z(4+i))
		}
		if !tail {
			VMOVDQA64(z(8+v-1), z(31))
		}
		for r := 10; r < 14; r += 2 {
			CMPQ(rounds, Imm(uint64(r)))
			JEQ(LabelRef(pre + "last"))
			dec(r)
			dec(r + 1)
		}
		Label(pre + "last")
		for i := range v {
			VAESDECLAST(z(30), z(i), z(i))
			VPXORQ(z(4+i), z(i), z(i))
		}
		for i := range v {
			if masked(i) {
				VMOVDQU64(z(i), reg.K1, m(text, 64*i))
			} else {
				VMOVDQU64(z(i), m(text, 64*i))
			}
		}
	}
	Label("check")
	CMPQ(rem, U32(256))
	JBE(LabelRef("tails"))
	Label("four")
	group(4, false, "g")
	ADDQ(U32(256), text)
	SUBQ(U32(256), rem)
	CMPQ(rem, U32(256))
	JA(LabelRef("four"))
	Label("tails")
	// The mask of the last register: two bits a block.
	LEAQ(m(rem, -1), reg.RCX)
	ANDL(Imm(48), reg.ECX)
	SHRL(Imm(3), reg.ECX)
	ADDL(Imm(2), reg.ECX)
	MOVL(U32(1), reg.EAX)
	SHLL(reg.CL, reg.EAX)
	DECL(reg.EAX)
	KMOVW(reg.EAX, reg.K1)
	for v := 1; v <= 4; v++ {
		if v < 4 {
			CMPQ(rem, U32(64*v))
			JA(LabelRef(fmt.Sprintf("t%d", v+1)))
		}
		group(v, true, fmt.Sprintf("t%d", v))
		if v < 4 {
			JMP(LabelRef("next"))
			Label(fmt.Sprintf("t%d", v+1))
		}
	}
	Label("next")
	ADDQ(Imm(jobSize), job)
	DECQ(n)
	JNE(LabelRef("job"))
	wipe(true)
	RET()
}
