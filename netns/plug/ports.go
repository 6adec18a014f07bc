package plug

// Ranges of published ports: a message has room for some thousands of single ones.

// follows says that b is the port behind a's last.
func follows(a, b Port) bool {
	n := max(a.Count, 1)
	host := a.Host == 0 && b.Host == 0 || a.Host != 0 && b.Host == a.Host+n
	return host && b.Container == a.Container+n && a.HostEnd == 0 && b.HostEnd == 0 && a.IP == b.IP && a.Protocol == b.Protocol
}

// Compact puts ports that follow each other together.
func Compact(list []Port) (ranges []Port) {
	for _, p := range list {
		if last := len(ranges) - 1; last >= 0 && follows(ranges[last], p) {
			ranges[last].Count = max(ranges[last].Count, 1) + max(p.Count, 1)
			continue
		}
		ranges = append(ranges, p)
	}
	return ranges
}

// Expand takes ranges apart.
func Expand(ranges []Port) (list []Port) {
	for _, p := range ranges {
		for i := range max(p.Count, 1) {
			one := p
			one.Count, one.Container = 0, p.Container+i
			if p.Host != 0 {
				one.Host += i
			}
			list = append(list, one)
		}
	}
	return list
}
