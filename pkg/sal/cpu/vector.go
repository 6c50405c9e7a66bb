package cpu

import (
	"math/bits"
	"unsafe"

	"vrouter/pkg/burst"
	"vrouter/pkg/gcm"
	"vrouter/pkg/mem"
	"vrouter/pkg/sal"
)

// vector is what a queue needs to do the jobs of a burst at once for which there are
// kernels. Nonces hold the SAs' salts, so it lies in memory that is kept out of core
// files.
type vector struct {
	chained chained // first: it has to be aligned
	way     [2]lot  // sealing, opening
	lines   [sal.Burst]uintptr
}

func newVector() (*mem.Region, *vector, error) {
	r, err := mem.MapSecret(int(unsafe.Sizeof(vector{})), mem.Options{SmallPages: true})
	if err != nil {
		return nil, nil, err
	}
	return r, (*vector)(r.Ptr()), nil
}

// lot is jobs of one operation.
type lot struct {
	n    int
	jobs [sal.Burst]gcm.Job
	of   [sal.Burst]uint16 // place in the burst; only of those that may fail
	nrun int
	runs [sal.Burst]jobRun
}

// jobRun is neighbouring jobs of one SA, which are counted together.
type jobRun struct {
	r        *record // mapped memory: nothing for the collector
	n, bytes uint64
}

// begin empties the lot.
func (l *lot) begin() { l.n, l.nrun = 0, 0 }

// run is the run that a job of r belongs to.
func (l *lot) run(r *record) *jobRun {
	if k := l.nrun - 1; k >= 0 && l.runs[k&(sal.Burst-1)].r == r {
		return &l.runs[k&(sal.Burst-1)]
	}
	x := &l.runs[l.nrun&(sal.Burst-1)]
	l.nrun++
	*x = jobRun{r: r}
	return x
}

// burst does up to sal.Burst jobs:
//
//	1  ask for the first line of each record
//	2  look at the job, write down what the kernel is handed
//	3  the kernels, which ask for keys and packets themselves
//	4  counts, and what had a wrong ICV
//
// Jobs of other ciphers are done one by one.
func (q *queue) burst(jobs []sal.Job) {
	v := q.vec
	q.firstLines(jobs)
	seal, open := &v.way[0], &v.way[1]
	seal.begin()
	open.begin()
	v.chained.begin()
	others := 0
	var r *record // of last
	var last sal.SA
	for i := range jobs {
		j := &jobs[i]
		if j.SA != last { // 0 is never an SA
			last, r = j.SA, nil
			if k := last / chunkSAs; k < maxChunks {
				if c := q.r.chunks[k].Load(); c != nil {
					r = &c.recs[last%chunkSAs]
				}
			}
		}
		if r == nil {
			j.Status = sal.StatusNoSA
			continue
		}
		// Only what is live may be looked at further, and stays what it is until
		// this call ends: a record between two SAs is being written.
		if r.state.Load() != live {
			j.Status = sal.StatusNoSA
			continue
		}
		if r.how == isChained {
			q.chain(j, i, r)
			continue
		}
		if r.how != isVector {
			j.Status = undone
			others++
			continue
		}
		// An SA does one operation only: sealing with an inbound key would use a
		// nonce twice.
		if r.op != j.Op {
			j.Status = sal.StatusNoSA
			continue
		}
		if !q.holds(j, int(j.Off)+espLen+ivLen+int(j.Len)+icvLen) {
			j.Status = sal.StatusNoRoom
			r.fail(sal.StatusNoRoom)
			continue
		}
		l := seal
		if j.Op != sal.Seal {
			l = open
			l.of[l.n&(sal.Burst-1)] = uint16(i)
		}
		k := l.n & (sal.Burst - 1)
		l.n++
		run := l.run(r)
		run.n++
		run.bytes += uint64(j.Len)
		j.Status = sal.StatusOK

		// RFC 4106: nonce = salt || IV (section 4), AAD = SPI || sequence number of
		// 32 or 64 bits (section 5).
		esp := q.base + uintptr(j.Desc.Buf())*sal.BufSize + uintptr(j.Off)
		spiSeq, iv := mem.Load64(mem.At(esp), 0), mem.Load64(mem.At(esp), espLen)
		aad, more, n := spiSeq, uint64(0), uint64(8)
		if r.esn {
			aad, more, n = spiSeq&0xffffffff|uint64(bits.ReverseBytes32(j.SeqHi))<<32, spiSeq>>32, 12
		}
		x := unsafe.Pointer(&l.jobs[k]) // field by field, eight bytes at a time
		mem.Store64(x, 0, uint64(gcm.KeyAt(uintptr(unsafe.Pointer(&r.aead)))))
		mem.Store64(x, 8, uint64(esp+espLen+ivLen))
		mem.Store64(x, 16, uint64(j.Len)|n<<32)
		mem.Store64(x, 24, uint64(mem.Load32(unsafe.Pointer(&r.salt), 0))|iv<<32)
		mem.Store64(x, 32, iv>>32)
		mem.Store64(x, 40, aad)
		mem.Store64(x, 48, more)
		mem.Store64(x, 56, 0)
	}
	if seal.n > 0 {
		q.r.e.level.Seal(seal.jobs[:seal.n])
		q.count(seal)
	}
	if open.n > 0 {
		if bad := q.r.e.level.Open(open.jobs[:open.n]); bad > 0 {
			q.refuse(jobs, open)
		}
		q.count(open)
	}
	q.unchain(jobs)
	switch others {
	case 0:
	case len(jobs):
		q.each(jobs)
	default:
		for i := range jobs {
			if jobs[i].Status == undone {
				q.one(&jobs[i])
			}
		}
	}
}

// undone marks a job that is left to one; no status of the contract.
const undone = ^sal.Status(0)

// refuse says which jobs of a lot had a wrong ICV, and takes them out of its runs.
func (q *queue) refuse(jobs []sal.Job, l *lot) {
	at, left := 0, l.runs[0].n // the run that the job is in, and how many of it are to come
	for k := range l.jobs[:l.n] {
		for left == 0 {
			at++
			left = l.runs[at].n
		}
		left--
		if l.jobs[k].Bad == 0 { // else the text is wiped
			continue
		}
		j, run := &jobs[l.of[k]], &l.runs[at]
		j.Status = sal.StatusBadICV
		run.r.fail(sal.StatusBadICV)
		run.n--
		run.bytes -= uint64(j.Len)
	}
}

// count books the jobs of a lot that were done well.
func (q *queue) count(l *lot) {
	for k := range l.runs[:l.nrun] {
		x := &l.runs[k]
		x.r.count(q.id, x.n, x.bytes)
	}
}

// firstLines asks for the first line of the records of a burst. One that follows
// another of the same SA needs nothing.
func (q *queue) firstLines(jobs []sal.Job) {
	lines, n, last := &q.vec.lines, 0, sal.SA(0)
	for i := range jobs {
		h := jobs[i].SA
		if h == last || h/chunkSAs >= maxChunks {
			continue
		}
		last = h
		if c := q.r.chunks[h/chunkSAs].Load(); c != nil {
			lines[n&(sal.Burst-1)] = uintptr(unsafe.Pointer(&c.recs[h%chunkSAs]))
			n++
		}
	}
	if n > 1 {
		burst.PrefetchPtrs(lines[:n], 0)
	}
}
