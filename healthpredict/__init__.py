"""Predicts 30-day readmission of patients with diabetes and keeps that prediction good by itself."""
