package stack

// BackendFolder is open to tests.
var BackendFolder = backendFolder
