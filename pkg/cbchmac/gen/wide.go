package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// cbc32 encrypts a block of each of thirty-two chains. Each lane has round keys of
// its own, read in every round: a load is as cheap as the round itself.
func cbc32() {
	TEXT("cbc32", NOSPLIT, "func(lanes *byte, rounds int) uint32")
	Pragma("noescape")
	Doc("cbc32 encrypts blocks of thirty-two chains by VAES and AVX-512.")
	const n = cbcWide / 4
	lanes, rounds, last := reg.RSI, reg.RDI, reg.RBX
	Load(Param("lanes"), lanes)
	Load(Param("rounds"), rounds)
	MOVQ(rounds, last)
	SHLQ(Imm(9), last) // rows of round keys
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
	Label("block")
	for g := range n {
		pointers(g)
		gather(at, 0, 16+g)
		VPTERNLOGQ(U8(ternXor), m(lanes, cbcRK+64*g), z(16+g), z(g))
	}
	for r := 1; r < 10; r++ {
		enc(r)
	}
	for r := 10; r < 14; r += 2 {
		CMPQ(rounds, Imm(uint64(r)))
		JEQ(LabelRef("last"))
		enc(r)
		enc(r + 1)
	}
	Label("last")
	for g := range n {
		VAESENCLAST(m(last, cbcRK+64*g), z(g), z(g))
	}
	for g := range n {
		pointers(g)
		VMOVDQU(x(g), m(at[0], 0))
		for i := 1; i < 4; i++ {
			VEXTRACTI32X4(U8(i), z(g), m(at[i], 0))
		}
	}
	advance(lanes, cbcWide, cbcPtr, cbcStep, cbcLeft)
	JEQ(LabelRef("block"))
	for g := range n {
		VMOVDQU64(z(g), m(lanes, cbcChain+64*g))
	}
	wipe(true)
	Store(reg.EAX, ReturnIndex(0))
	RET()
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
