package cpu

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"unsafe"

	"vrouter/pkg/sal"
)

// own is the part of a queue that ciphers with HMAC need: objects that change
// with each packet, in memory that is kept out of core files.
type own struct {
	mem  *arena
	ivs  ivs
	ctr  ctr
	macs [nMACs]mac
	hi   []byte // the upper half of a sequence number
}

func newOwn() (*own, error) {
	a, err := newArena(8192)
	if err != nil {
		return nil, err
	}
	o := &own{mem: a, ivs: newIVs(a), ctr: newCTR(a), hi: a.bytes(4)}
	for k := noMAC + 1; k < nMACs; k++ {
		o.macs[k] = newMAC(k, a)
	}
	return o, nil
}

// tidy wipes what a burst has left of keys.
func (o *own) tidy() {
	o.ctr.forget()
	for k := noMAC + 1; k < nMACs; k++ {
		o.macs[k].forget()
	}
}

func (o *own) close() { _ = o.mem.r.Unmap() } // wipes; memory that cannot be unmapped is no one's loss

// other does a job of an SA whose cipher is no AEAD: encrypt, then HMAC from
// the SPI to the text's end (RFC 4303 section 3.3.2); inbound HMAC first, and
// nothing is decrypted unless it was right (section 3.4.4.1).
func (q *queue) other(j *sal.Job, r *record, b cipher.Block) {
	from := int(j.Off) + espLen + int(r.iv)
	end := from + int(j.Len)
	if !q.holds(j, end+int(r.icv)) {
		j.Status = sal.StatusNoRoom
		r.fail(sal.StatusNoRoom)
		return
	}
	if r.how == isCBC && j.Len%blockLen != 0 {
		j.Status = sal.StatusShort
		r.fail(sal.StatusShort)
		return
	}
	p := unsafe.Slice((*byte)(at(q.base+uintptr(j.Desc.Buf())*sal.BufSize)), end+int(r.icv))
	covered, iv, text, icv := p[j.Off:end], p[j.Off+espLen:from], p[from:end], p[end:end+int(r.icv)]
	q.ownUsed = true
	o := q.own
	var hi []byte
	if r.esn {
		hi = o.hi
		binary.BigEndian.PutUint32(hi, j.SeqHi)
	}
	mac := &o.macs[r.mac%nMACs]
	if j.Op == sal.Seal {
		switch r.how {
		case isCBC:
			o.ivs.next(iv)
			cbcEncrypt(b, iv, text)
		case isCTR:
			o.ctr.xor(r, b, iv, text)
		}
		copy(icv, mac.over(r.macKeys(), covered, hi))
	} else {
		if subtle.ConstantTimeCompare(icv, mac.over(r.macKeys(), covered, hi)[:len(icv)]) != 1 {
			j.Status = sal.StatusBadICV
			r.fail(sal.StatusBadICV)
			return
		}
		switch r.how {
		case isCBC:
			cbcDecrypt(b, iv, text)
		case isCTR:
			o.ctr.xor(r, b, iv, text)
		}
	}
	j.Status = sal.StatusOK
	r.count(q.id, 1, uint64(j.Len))
}

// Keys of an SA that is no AEAD fit where an AEAD would be.
var _ [macsAt - int(unsafe.Sizeof([488]byte{}))]struct{}
