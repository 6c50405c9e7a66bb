package ipsec

import (
	"fmt"
	"sync/atomic"
	"time"

	"vrouter/fastpath/drop"
	"vrouter/fastpath/event"
	"vrouter/pkg/sal"
)

// Alarms tell that an inbound SA is sent packets which nobody can have sent: somebody
// makes them up, or sends what he has seen again. All are counted (saErrors) and
// dropped in any case. The control side looks at the counters once a second, so that
// workers have nothing to do with it.

// Alarms are from how many such packets in a second on it is told of; 0: never.
type Alarms struct {
	BadICV uint32
	Replay uint32 // seen before, or too late for the window
}

const (
	alarmEvery = int64(time.Second)
	// quietFor is for how long after an alarm the same SA makes none of its kind.
	quietFor = int64(10 * time.Second)
)

// alarm is what was seen of an SA's counters, and when it was told of. By kind.
type alarm struct {
	seen [2]uint64
	told [2]int64
}

var alarmKinds = [2]event.Kind{event.ICVAlarm, event.ReplayAlarm}

// SetAlarms says when there are alarms from now on.
func (f *Feature) SetAlarms(a Alarms) { f.alarms = a }

// suspicious are an SA's counters of packets that nobody can have sent, by kind.
func (f *Feature) suspicious(s *sa) (n [2]uint64) {
	t := f.sad.errs.At(s.slot)
	get := func(why drop.Reason) uint64 { return atomic.LoadUint64(&t[saReason[why]]) }
	return [2]uint64{get(drop.ESPBadICV), get(drop.ESPReplay) + get(drop.ESPLate)}
}

// report tells of SAs that have used as many sequence numbers again as they are to
// report.
func (f *Feature) report() {
	if f.reports == 0 || f.env.Events == nil {
		return
	}
	for _, s := range f.sas {
		if s.SeqReport == 0 {
			continue
		}
		about := f.about(s)
		over, was := about.Seq/s.SeqReport+1, s.reported
		if s.reported = over; over == was || was == 0 {
			continue
		}
		f.env.Events.Add(event.Event{Kind: event.SASeqReport, Object: s.Name, Text: fmt.Sprintf("sequence number %d", about.Seq), SA: &about})
	}
}

// alarm looks at all SAs, if it is time to.
func (f *Feature) alarm(now int64) {
	took := now - f.alarmed
	if took < alarmEvery {
		return
	}
	f.alarmed = now
	f.report()
	limits := [2]uint64{uint64(f.alarms.BadICV), uint64(f.alarms.Replay)}
	if limits == [2]uint64{} {
		return
	}
	for _, s := range f.sas {
		if s.Direction != sal.Inbound {
			continue
		}
		is := f.suspicious(s)
		for k, limit := range limits {
			n := is[k] - s.alarm.seen[k]
			s.alarm.seen[k] = is[k]
			if limit == 0 || float64(n)*float64(alarmEvery) < float64(limit)*float64(took) || s.alarm.told[k] != 0 && now-s.alarm.told[k] < quietFor {
				continue
			}
			s.alarm.told[k] = now
			text := fmt.Sprintf("%d packets came with a wrong ICV", n)
			if k == 1 {
				text = fmt.Sprintf("%d packets came that were seen before, or too late", n)
			}
			about := f.about(s)
			f.env.Log.Warn("SA: "+text, "sa", s.Name, "spi", fmt.Sprintf("%#x", s.SPI))
			if f.env.Events != nil {
				f.env.Events.Add(event.Event{Kind: alarmKinds[k], Object: s.Name, Text: text, Count: n, SA: &about})
			}
		}
	}
}
