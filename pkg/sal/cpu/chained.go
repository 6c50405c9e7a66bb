package cpu

import (
	"encoding/binary"
	"unsafe"

	"vrouter/pkg/cbchmac"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// cbcIV is the IV that AES-CBC puts in front of the text.
const cbcIV = cbchmac.BlockSize

// chained is what a queue needs to do the jobs of a burst at once whose cipher is
// AES-CBC with HMAC-SHA2-256.
type chained struct {
	state cbchmac.State
	way   [2]chains // sealing, opening
}

// chains is jobs of one operation, as lot is.
type chains struct {
	n    int
	jobs [sal.Burst]cbchmac.Job
	of   [sal.Burst]uint16
	recs [sal.Burst]*record
}

func (c *chained) begin() { c.way[0].n, c.way[1].n = 0, 0 }

// chain looks at job i of the burst and writes down what the kernels are handed. The
// IV begins as a nonce that they encrypt: IVs of one key come from that key itself, so
// that it does not matter which queue made them.
func (q *queue) chain(j *sal.Job, i int, r *record) {
	if r.op != j.Op {
		j.Status = sal.StatusNoSA
		return
	}
	from := int(j.Off) + espLen + cbcIV
	if !q.holds(j, from+int(j.Len)+cbchmac.ICVSize) {
		j.Status = sal.StatusNoRoom
		r.fail(sal.StatusNoRoom)
		return
	}
	if j.Len%blockLen != 0 {
		j.Status = sal.StatusShort
		r.fail(sal.StatusShort)
		return
	}
	text := q.base + uintptr(j.Desc.Buf())*sal.BufSize + uintptr(from)
	l := &q.vec.chained.way[0]
	if j.Op != sal.Seal {
		l = &q.vec.chained.way[1]
	} else {
		q.own.ivs.nonce(mem.At(text - cbcIV))
	}
	k := l.n & (sal.Burst - 1)
	l.n++
	l.of[k], l.recs[k] = uint16(i), r
	x := &l.jobs[k]
	x.Key, x.Text = cbchmac.KeyAt(uintptr(unsafe.Pointer(&r.aead))), text
	x.Len, x.Head, x.HasMore, x.Bad = uint32(j.Len), espLen+cbcIV, 0, 0
	if r.esn {
		x.HasMore = 1
		binary.BigEndian.PutUint32(x.More[:], j.SeqHi)
	}
}

// unchain does what chain has written down.
func (q *queue) unchain(jobs []sal.Job) {
	c := &q.vec.chained
	if l := &c.way[0]; l.n > 0 {
		c.state.Seal(q.r.e.cbc, l.jobs[:l.n])
		q.chainsDone(jobs, l)
	}
	if l := &c.way[1]; l.n > 0 {
		c.state.Open(q.r.e.cbc, l.jobs[:l.n])
		q.chainsDone(jobs, l)
	}
}

// chainsDone says how the jobs of a lot went.
func (q *queue) chainsDone(jobs []sal.Job, l *chains) {
	for k := range l.jobs[:l.n] {
		j, r := &jobs[l.of[k]], l.recs[k]
		if l.jobs[k].Bad != 0 { // nothing is decrypted
			j.Status = sal.StatusBadICV
			r.fail(sal.StatusBadICV)
			continue
		}
		j.Status = sal.StatusOK
		r.count(q.id, 1, uint64(j.Len))
	}
}
