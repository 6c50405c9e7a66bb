package ipsec

import (
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// SetSeq changes the last sequence number that an SA has used, behind the back
// of the process that has the state directory open, or of nobody.
func SetSeq(stateDir string, s *SA, seq uint64) error {
	return atSeq(stateDir, s, func(x *uint64) { *x = seq })
}

// ReadSeq is what is written down of an SA's last sequence number.
func ReadSeq(stateDir string, s *SA) (seq uint64, err error) {
	err = atSeq(stateDir, s, func(x *uint64) { seq = atomic.LoadUint64(x) })
	return seq, err
}

func atSeq(stateDir string, s *SA, do func(*uint64)) error {
	f, err := os.OpenFile(stateDir+"/sa-state", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(m)
	l := &liveFile{mem: m, n: uint32(st.Size()-liveHeader) / (64 + 64 + windowWords*8)}
	tag := tagOf(s)
	for i := uint32(1); i < l.n; i++ {
		if l.ident(i).Tag == tag {
			do(&l.line(i).Seq)
			return nil
		}
	}
	return fmt.Errorf("no SA has this key")
}

// SetLeash shortens the leash of engines that give numbers, and gives what undoes it.
func SetLeash(n uint64) func() {
	old := leash
	leash = n
	return func() { leash = old }
}
