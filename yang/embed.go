// Package modules holds the YANG modules of the router as files, and says
// which of them it implements and which of their features it has. What a
// module's nodes do is the business of mgmt; nothing here depends on it.
package modules

import (
	"embed"
	"maps"
	"slices"
)

// FS has every module once, as NAME@REVISION.yang: the router's own at the
// root, the standard ones under ietf, deviations under deviations. It is
// read-only and safe for concurrent use.
//
//go:embed *.yang ietf/*.yang deviations/*.yang
var FS embed.FS

// implemented are the modules whose nodes, identities and operations the
// router has (RFC 7950 section 5.6.5). What else is in FS is there to be
// imported: ietf-yang-types, ietf-inet-types, ietf-i2nsf-ikec and
// ietf-yang-metadata lend only types, groupings and extensions.
var implemented = []string{
	"iana-if-type",
	"ietf-interfaces",
	"ietf-ip",
	"ietf-routing",
	"ietf-ipv4-unicast-routing",
	"ietf-ipv6-unicast-routing",
	"ietf-i2nsf-ikeless",

	"ietf-datastores",
	"ietf-netconf",
	"ietf-netconf-acm",
	"ietf-netconf-monitoring",
	"ietf-netconf-notifications",
	"ietf-netconf-with-defaults",
	"ietf-yang-library",
	"notifications",
	"nc-notifications",

	"vrouter-port",
	"vrouter-sal",
	"vrouter-mtu",
	"vrouter-fastpath",
	"vrouter-routing",
	"vrouter-commit",
	"vrouter-notify",

	"vrouter-deviations-old-state",
	"vrouter-deviations-ietf-interfaces",
	"vrouter-deviations-ietf-ip",
	"vrouter-deviations-ietf-routing",
	"vrouter-deviations-ietf-ipv4-unicast-routing",
	"vrouter-deviations-ietf-ipv6-unicast-routing",
	"vrouter-deviations-ietf-i2nsf-ikeless",
	"vrouter-deviations-ietf-netconf-monitoring",
	"vrouter-deviations-ietf-yang-library",
}

// features are those that are on. A feature that is not named is off, and its
// nodes are not in the schema:
//
//   - ietf-interfaces: pre-provisioning, because a commit is refused when its
//     device is not there.
//   - ietf-ip: both; masks have no holes and addresses are not made up.
//   - ietf-routing: multiple-ribs and router-id; no protocol needs them yet.
//   - ietf-netconf: url.
var features = map[string][]string{
	"ietf-i2nsf-ikeless": {"ikeless-notification"},
	"ietf-interfaces":    {"arbitrary-names", "if-mib"},
	"ietf-netconf": {"candidate", "confirmed-commit", "rollback-on-error", "startup", "validate",
		"writable-running", "xpath"},
}

// Implemented names the modules to implement, each before those that deviate
// it. The caller owns the slice.
func Implemented() []string { return slices.Clone(implemented) }

// Features gives the enabled features by module. A module without any is not
// in the map. The caller owns map and slices.
func Features() map[string][]string {
	m := maps.Clone(features)
	for k, v := range m {
		m[k] = slices.Clone(v)
	}
	return m
}
