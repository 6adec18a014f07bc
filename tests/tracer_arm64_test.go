package tests

// changesOld knows the system calls that only older architectures have: none here.
func changesOld(uint64) bool { return false }
