package intent

import (
	"net/netip"
	"slices"
	"strings"
)

// LBService is a load balancer: /infra/lb-services/<id>. Of size DLB it is
// distributed: it works at the ports of the Group that it is connected to. A
// gateway has at most one.
// Source: NSX Policy API, schema LBService.
type LBService struct {
	Resource
	ConnectivityPath     string `json:"connectivity_path"` // a Tier-0 or Tier-1; a Group iff Size is DLB; empty: nowhere
	Enabled              *bool  `json:"enabled"`           // default true; see IsEnabled
	Size                 string `json:"size"`              // SMALL (default), MEDIUM, LARGE, XLARGE or DLB
	RelaxScaleValidation bool   `json:"relax_scale_validation"`
	ErrorLogLevel        string `json:"error_log_level"`
	AccessLogEnabled     bool   `json:"access_log_enabled"`
}

// LBVirtualServer is one address and some ports of a load balancer:
// /infra/lb-virtual-servers/<id>.
// Source: NSX Policy API, schema LBVirtualServer.
type LBVirtualServer struct {
	Resource
	IPAddress                string               `json:"ip_address"`
	Ports                    []string             `json:"ports"` // 80 or 8000-8080
	PoolPath                 string               `json:"pool_path"`
	LBServicePath            string               `json:"lb_service_path"`          // empty: not attached yet
	ApplicationProfilePath   string               `json:"application_profile_path"` // decides the protocol; see Tree.LBMatches
	LBPersistenceProfilePath string               `json:"lb_persistence_profile_path"`
	AccessListControl        *LBAccessListControl `json:"access_list_control"`
	DefaultPoolMemberPorts   []string             `json:"default_pool_member_ports"` // for members without a port; one port
	MaxConcurrentConnections int64                `json:"max_concurrent_connections"`
	MaxNewConnectionRate     int64                `json:"max_new_connection_rate"` // without effect
	Enabled                  *bool                `json:"enabled"`                 // default true; see IsEnabled
	SorryPoolPath            string               `json:"sorry_pool_path"`         // without effect: layer 7
	AccessLogEnabled         bool                 `json:"access_log_enabled"`
	LogSignificantEventOnly  bool                 `json:"log_significant_event_only"`
	Rules                    []LBRule             `json:"rules"`                      // refused: layer 7
	ClientSSLProfileBinding  *LBSSLProfileBinding `json:"client_ssl_profile_binding"` // refused: layer 7
	ServerSSLProfileBinding  *LBSSLProfileBinding `json:"server_ssl_profile_binding"` // refused: layer 7
}

// LBAccessListControl says which clients a virtual server takes.
type LBAccessListControl struct {
	Action    string `json:"action"`     // ALLOW: only those of the group; DROP: all others
	Enabled   *bool  `json:"enabled"`    // default true
	GroupPath string `json:"group_path"` // clients
	Extra     Extra  `json:"-"`
}

// LBRule is a rule of layer 7, which is not carried.
type LBRule struct {
	Extra Extra `json:"-"`
}

// LBSSLProfileBinding is what a TLS endpoint works with. Nothing of it is
// carried.
type LBSSLProfileBinding struct {
	Extra Extra `json:"-"`
}

// LBPool is the members that a virtual server sends connections to:
// /infra/lb-pools/<id>. It has members or a member group.
// Source: NSX Policy API, schema LBPool.
type LBPool struct {
	Resource
	Algorithm          string             `json:"algorithm"` // ROUND_ROBIN (default), WEIGHTED_ROUND_ROBIN, LEAST_CONNECTION, WEIGHTED_LEAST_CONNECTION or IP_HASH
	Members            []LBPoolMember     `json:"members"`
	MemberGroup        *LBPoolMemberGroup `json:"member_group"`
	SNATTranslation    *LBSnatTranslation `json:"snat_translation"`   // default LBSnatAutoMap
	MinActiveMembers   int64              `json:"min_active_members"` // 0: 1
	ActiveMonitorPaths []string           `json:"active_monitor_paths"`
	PassiveMonitorPath string             `json:"passive_monitor_path"`
}

// LBPoolMember is one member of a pool.
type LBPoolMember struct {
	IPAddress                string `json:"ip_address"`
	Port                     string `json:"port"` // one port; empty: see LBVirtualServer.DefaultPoolMemberPorts
	DisplayName              string `json:"display_name"`
	Weight                   int64  `json:"weight"`      // 1 to 256; 0: 1
	AdminState               string `json:"admin_state"` // ENABLED (default), DISABLED or GRACEFUL_DISABLED
	BackupMember             bool   `json:"backup_member"`
	MaxConcurrentConnections int64  `json:"max_concurrent_connections"` // 0: no limit
	Extra                    Extra  `json:"-"`
}

// LBPoolMemberGroup makes the addresses of a group the members of a pool.
type LBPoolMemberGroup struct {
	GroupPath         string              `json:"group_path"`
	Port              int64               `json:"port"`               // 0: see LBVirtualServer.DefaultPoolMemberPorts
	IPRevisionFilter  string              `json:"ip_revision_filter"` // IPV4 (default), IPV6 or IPV4_IPV6
	MaxIPListSize     int64               `json:"max_ip_list_size"`   // 0: no limit of its own
	CustomizedMembers []PoolMemberSetting `json:"customized_members"`
	Extra             Extra               `json:"-"`
}

// PoolMemberSetting is what one address of a member group has of its own.
type PoolMemberSetting struct {
	IPAddress   string `json:"ip_address"`
	DisplayName string `json:"display_name"`
	Weight      int64  `json:"weight"`      // 1 to 256; 0: 1
	AdminState  string `json:"admin_state"` // ENABLED (default), DISABLED or GRACEFUL_DISABLED
	Extra       Extra  `json:"-"`
}

// LBSnatTranslation says which source the members of a pool see.
type LBSnatTranslation struct {
	Type        string            `json:"type"`         // LBSnatAutoMap (the VIP), LBSnatDisabled or LBSnatIpPool
	IPAddresses []LBSnatIPElement `json:"ip_addresses"` // of LBSnatIpPool
	Extra       Extra             `json:"-"`
}

// LBSnatIPElement is some of the sources of an LBSnatIpPool. Source: NSX
// Policy API, schema LBSnatIpElement.
type LBSnatIPElement struct {
	IPAddress    string `json:"ip_address"`    // an address or a range
	PrefixLength int64  `json:"prefix_length"` // of the subnet that the addresses are in; without effect
	Extra        Extra  `json:"-"`
}

// LBFastTcpProfile makes a virtual server take TCP:
// /infra/lb-app-profiles/<id>. How long connections live is said by the session
// timer profile; the profile's own times are only kept.
type LBFastTcpProfile struct {
	Resource
	IdleTimeout            int64 `json:"idle_timeout"`
	CloseTimeout           int64 `json:"close_timeout"`
	HAFlowMirroringEnabled bool  `json:"ha_flow_mirroring_enabled"`
}

// LBFastUdpProfile makes a virtual server take UDP; see LBFastTcpProfile.
type LBFastUdpProfile struct {
	Resource
	IdleTimeout          int64 `json:"idle_timeout"`
	FlowMirroringEnabled bool  `json:"flow_mirroring_enabled"`
}

// LBHttpProfile is for virtual servers of layer 7, which are refused.
type LBHttpProfile struct {
	Resource
}

// LBSourceIpPersistenceProfile keeps a client at its member:
// /infra/lb-persistence-profiles/<id>.
type LBSourceIpPersistenceProfile struct {
	Resource
	Timeout                       int64  `json:"timeout"`            // seconds; 0: 300
	Purge                         string `json:"purge"`              // FULL (default) or NO_PURGE; without effect
	PersistenceShared             bool   `json:"persistence_shared"` // among all virtual servers of the profile
	HAPersistenceMirroringEnabled bool   `json:"ha_persistence_mirroring_enabled"`
}

// LBCookiePersistenceProfile is for virtual servers of layer 7; one that names
// it is refused.
type LBCookiePersistenceProfile struct {
	Resource
}

// LBActiveMonitor is what all active monitors have. Times are in seconds.
// Source: NSX Policy API, schema LBActiveMonitor.
type LBActiveMonitor struct {
	Interval    int64 `json:"interval"`     // 0: 5
	Timeout     int64 `json:"timeout"`      // 0: 5
	FallCount   int64 `json:"fall_count"`   // 0: 3
	RiseCount   int64 `json:"rise_count"`   // 0: 3
	MonitorPort int64 `json:"monitor_port"` // 0: the member's
}

// LBTcpMonitorProfile opens a TCP connection: /infra/lb-monitor-profiles/<id>.
type LBTcpMonitorProfile struct {
	Resource
	LBActiveMonitor
	Send    string `json:"send"`
	Receive string `json:"receive"` // what the answer contains; empty: anything
}

// LBUdpMonitorProfile sends a datagram and waits for an answer.
type LBUdpMonitorProfile struct {
	Resource
	LBActiveMonitor
	Send    string `json:"send"`
	Receive string `json:"receive"`
}

// LBIcmpMonitorProfile sends an echo request.
type LBIcmpMonitorProfile struct {
	Resource
	LBActiveMonitor
	DataLength *int64 `json:"data_length"` // bytes, 0 to 65507; default 56
}

// LBHTTPMonitor is what monitors by HTTP and HTTPS have.
type LBHTTPMonitor struct {
	RequestMethod       string                `json:"request_method"`  // GET (default), OPTIONS, POST, HEAD or PUT
	RequestURL          string                `json:"request_url"`     // default /
	RequestVersion      string                `json:"request_version"` // HTTP_VERSION_1_1 (default) or HTTP_VERSION_1_0
	RequestHeaders      []LBHttpRequestHeader `json:"request_headers"`
	RequestBody         string                `json:"request_body"`
	ResponseStatusCodes []int64               `json:"response_status_codes"` // default 200
	ResponseBody        string                `json:"response_body"`         // what the body contains; empty: anything
}

// LBHttpRequestHeader is one header of a monitor's request.
type LBHttpRequestHeader struct {
	HeaderName  string `json:"header_name"`
	HeaderValue string `json:"header_value"`
	Extra       Extra  `json:"-"`
}

// LBHttpMonitorProfile asks by HTTP.
type LBHttpMonitorProfile struct {
	Resource
	LBActiveMonitor
	LBHTTPMonitor
}

// LBHttpsMonitorProfile asks by HTTPS.
type LBHttpsMonitorProfile struct {
	Resource
	LBActiveMonitor
	LBHTTPMonitor
	ServerSSLProfileBinding *LBSSLProfileBinding `json:"server_ssl_profile_binding"` // without effect
	// TrustedCA and ServerName are Weft's own: certificates in PEM, one of
	// which must have issued the member's, and the name that it must have.
	// Without TrustedCA every certificate is good.
	TrustedCA  string `json:"trusted_ca"`
	ServerName string `json:"server_name"`
}

// LBPassiveMonitorProfile makes a member down whose connections fail.
type LBPassiveMonitorProfile struct {
	Resource
	MaxFails int64 `json:"max_fails"` // failures in a row; 0: 5
	Timeout  int64 `json:"timeout"`   // seconds that the member stays down; 0: 5
}

// MaxLBMembers is how many members a pool has at most, MaxLBSnatAddresses how
// many addresses an LBSnatIpPool.
const (
	MaxLBMembers       = 2048
	MaxLBSnatAddresses = 8
)

// IsEnabled reports whether the load balancer is on.
func (s *LBService) IsEnabled() bool { return isOn(s.Enabled) }

// IsDistributed reports whether the load balancer is connected to a group.
func (s *LBService) IsDistributed() bool { return s.Size == "DLB" }

// IsEnabled reports whether the virtual server is on.
func (v *LBVirtualServer) IsEnabled() bool { return isOn(v.Enabled) }

// isOn reads a switch whose default is true.
func isOn(b *bool) bool { return b == nil || *b }

// Address returns the VIP.
func (v *LBVirtualServer) Address() netip.Addr { return must(parseAddr(v.IPAddress)) }

// MemberPort returns the port of members that have none of their own; 0: the
// one that was asked.
func (v *LBVirtualServer) MemberPort() uint16 {
	if len(v.DefaultPoolMemberPorts) == 0 || slices.Equal(v.DefaultPoolMemberPorts, v.Ports) {
		return 0
	}
	first, _, f := parsePorts(v.DefaultPoolMemberPorts[0])
	return must(first, f)
}

// Access returns the access list; nil: everyone.
func (v *LBVirtualServer) Access() *LBAccessListControl {
	if v.AccessListControl == nil || !isOn(v.AccessListControl.Enabled) {
		return nil
	}
	return v.AccessListControl
}

// LBMatches returns the protocol and the ports that a virtual server takes.
func (t *Tree) LBMatches(v *LBVirtualServer) []ServiceMatch {
	proto := uint8(protoTCP)
	if _, udp := Find[*LBFastUdpProfile](t, v.ApplicationProfilePath); udp {
		proto = protoUDP
	}
	var out []ServiceMatch
	for _, s := range v.Ports {
		first, last, f := parsePorts(s)
		must(first, f)
		out = append(out, ServiceMatch{proto, first, last})
	}
	return out
}

// IsWeighted reports whether the algorithm looks at weights. Source: NSX admin
// guide, "Add a Server Pool".
func (p *LBPool) IsWeighted() bool {
	return strings.HasPrefix(p.Algorithm, "WEIGHTED_") || p.Algorithm == "IP_HASH"
}

// SNATType returns the type of snat_translation.
func (p *LBPool) SNATType() string {
	if p.SNATTranslation == nil || p.SNATTranslation.Type == "" {
		return "LBSnatAutoMap"
	}
	return p.SNATTranslation.Type
}

// SNATAddresses returns the addresses of an LBSnatIpPool, sorted, each once.
func (p *LBPool) SNATAddresses() []netip.Addr {
	if p.SNATType() != "LBSnatIpPool" {
		return nil
	}
	return must(p.snatAddresses())
}

func (p *LBPool) snatAddresses() ([]netip.Addr, *fault) {
	var out []netip.Addr
	for _, e := range p.SNATTranslation.IPAddresses {
		prefixes, f := parseAddresses(e.IPAddress)
		if f != nil {
			return nil, f
		}
		for _, p := range prefixes {
			for a := p.Addr(); p.Contains(a) && len(out) <= MaxLBSnatAddresses; a = a.Next() {
				out = append(out, a)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}

// Address returns the member's address.
func (m *LBPoolMember) Address() netip.Addr { return must(parseAddr(m.IPAddress)) }

// PortNumber returns the member's port; 0: none of its own.
func (m *LBPoolMember) PortNumber() uint16 {
	if m.Port == "" {
		return 0
	}
	first, _, f := parsePorts(m.Port)
	return must(first, f)
}

// Takes reports whether ip_revision_filter lets an address be a member.
func (g *LBPoolMemberGroup) Takes(a netip.Addr) bool {
	return g.IPRevisionFilter == "IPV4_IPV6" || a.Is4() == (g.IPRevisionFilter != "IPV6")
}

// Setting returns what an address has of its own, or a zero one.
func (g *LBPoolMemberGroup) Setting(a netip.Addr) PoolMemberSetting {
	for _, s := range g.CustomizedMembers {
		if must(parseAddr(s.IPAddress)) == a {
			return s
		}
	}
	return PoolMemberSetting{}
}
