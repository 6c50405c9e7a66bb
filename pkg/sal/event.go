package sal

// EventKind is what an engine reports by itself.
type EventKind uint8

// The events (g-API notification hooks and rte_security's device events).
const (
	EventGone        EventKind = iota // the engine is lost; every job fails with StatusDevice
	EventBack                         // it works again; its SAs must be installed anew
	EventSoftBytes                    // soft lifetime reached, packets still pass
	EventSoftPackets                  //
	EventHardBytes                    // hard lifetime reached, packets are dropped
	EventHardPackets                  //
	EventSeqOverflow                  // no sequence number left
	EventSeqPeriodic                  // the report every SAConfig.SeqReport numbers
	EventICVAlarm                     // bad ICVs above the alarm rate
	EventReplayAlarm                  // replays above the alarm rate
)

// Event is one report. SA is 0 where the event is about the whole engine.
type Event struct {
	Kind  EventKind
	SA    SA
	SPI   uint32
	Value uint64 // sequence number, byte or packet count
}
