package ipsec

import (
	"vrouter/fastpath/drop"
	"vrouter/pkg/esp"
	"vrouter/pkg/pkt"
)

// What is put around packets and how it is taken off again is pkg/esp's, in tunnel
// mode; transport.go has the other mode.
const (
	espHeader  = esp.HeaderLen
	espTrailer = esp.TrailerLen
	udpLen     = esp.UDPLen
	nextIPv4   = esp.NextIPv4
	nextIPv6   = esp.NextIPv6
	nextDummy  = esp.NextDummy
	protoESP   = pkt.ProtoESP
)

// decapped is what packets die of by what is in them.
var decapped = [...]drop.Reason{esp.OK: drop.None, esp.Short: drop.ESPShort, esp.BadPad: drop.ESPBadPad, esp.BadNext: drop.ESPBadNext,
	esp.BadECN: drop.ESPBadECN, esp.Dummy: drop.ESPDummy}
