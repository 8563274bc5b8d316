package hosts

// Quick looks often, and notices soon: for tests of real machines.
var Quick Option = quick
