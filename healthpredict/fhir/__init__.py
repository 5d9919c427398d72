"""HL7 FHIR R4 resources: read into the contract's record, and written from it. Pure: no files, no clock, no settings."""
