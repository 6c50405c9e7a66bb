package reass

// For tests in reass_test, which need the testbed.
const MaxPieces = maxPieces

var Take = (*Feature).take
