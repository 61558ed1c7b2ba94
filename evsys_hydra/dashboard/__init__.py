"""The dashboard's server: the gateway's contract over a store on this machine."""
